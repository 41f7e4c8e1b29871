// The overview: figures, the open round, service levels, rounds, and the map of ranks.

import { drawCharts } from "./charts.js";
import { at, cells, element, fillRows, fillTiles, setText } from "./dom.js";
import { fleet, gatewayNow } from "./fleet.js";
import { bytes, day, decimals, duration, number, percent, t } from "./text.js";

const SHOWN_LATE = 12;

const last = (rounds, name) => rounds.map((one) => one[name]).filter((one) => one !== null).at(-1) ?? null;

function tiles() {
  const devices = [...fleet.devices.values()];
  const rounds = [...fleet.rounds.values()];
  const online = devices.filter((one) => one.online).length;
  const { run } = fleet;
  fillTiles(at("tiles"), [
    [t("tile.online"), t("tile.of", { count: number(online), total: number(devices.length) })],
    [t("tile.rounds"), run.rounds === null ? number(0) : t("tile.of", { count: number(run.closed), total: number(run.rounds) })],
    [t("tile.accuracy"), percent(last(rounds, "accuracy"))],
    [t("tile.loss"), decimals(last(rounds, "loss"))],
    [t("tile.ranks"), number(fleet.rank_map?.alive.reduce((sum, one) => sum + one, 0))],
    [t("tile.up"), bytes(rounds.reduce((sum, one) => sum + one.updates_bytes, 0))],
  ]);
}

function standing(run) {
  if (run.rounds === null) return t("round.not_begun");
  if (run.open_round !== null) {
    const figures = {
      round: number(run.open_round), rounds: number(run.rounds), answered: number(run.answered),
      cohort: number(run.cohort),
    };
    if (run.opened_s === null) return t("round.begun", figures);
    return t("round.open", { ...figures, time: duration(Math.max(0, Math.floor(gatewayNow() - run.opened_s))) });
  }
  if (run.closed >= run.rounds) return t("round.over", { rounds: number(run.rounds) });
  return t("round.between", { closed: number(run.closed), rounds: number(run.rounds) });
}

function said(run) {
  const found = [standing(run)];
  const service = `service.${run.service.replace(" ", "_")}`;
  if (["stopped", "failed", "not set"].includes(run.service)) found.push(t(service));
  if (run.paused) found.push(t("round.paused", { who: run.paused_by, date: day(Date.parse(run.paused_date) / 1000) }));
  else if (run.waiting && run.service === "running") found.push(t("round.waiting", { reason: run.waiting }));
  return found.join(" ");
}

export function showRound() {
  const { run } = fleet;
  if (run === null) return;
  setText(at("round-state"), said(run));
  at("round-progress").max = Math.max(1, run.cohort);
  at("round-progress").value = run.answered;
  at("round-progress").hidden = run.open_round === null;
  const late = [...fleet.devices].filter(([, one]) => one.late).map(([name]) => name);
  const more = late.length > SHOWN_LATE ? ` ${t("round.more", { count: number(late.length - SHOWN_LATE) })}` : "";
  setText(at("round-late"), late.length ? t("round.late", { names: late.slice(0, SHOWN_LATE).join(", ") }) + more : "");
  at("round-late").className = "warn";
  at("pause").hidden = run.paused;
  at("resume").hidden = !run.paused;
  at("start").hidden = run.service === "running" || run.service === "over";
  at("stop").hidden = run.service !== "running" && run.service !== "failed";
}

function showLevels() {
  const names = fleet.levels.map((one) => one.name);
  at("levels-none").hidden = names.length > 0;
  at("levels-region").hidden = names.length === 0;
  fillRows(at("levels"), names, () => cells(5, true), (row, name) => {
    const one = fleet.levels.find((level) => level.name === name);
    const show = name === "accuracy" ? percent : number;
    const values = [
      t(`levels.${name}`), t(one.met ? "levels.met" : "levels.missed"), show(one.bound),
      one.value === null ? "" : show(one.value), one.date === null ? "" : day(Date.parse(one.date) / 1000),
    ];
    values.forEach((value, place) => setText(row.children[place], value));
    row.children[1].className = one.met ? "good" : "bad";
  });
}

function showRounds() {
  drawCharts();
  const keys = [...fleet.rounds.keys()].reverse();
  fillRows(at("rounds"), keys, () => cells(9, true), (row, key) => {
    const one = fleet.rounds.get(key);
    const values = [
      number(one.round), number(one.devices), number(one.late), percent(one.accuracy), decimals(one.loss),
      number(one.ranks_alive), bytes(one.updates_bytes), bytes(one.delta_bytes), duration(one.wall_s),
    ];
    values.forEach((value, place) => {
      setText(row.children[place], value);
      if (place) row.children[place].className = "number";
    });
  });
}

// The name of a module within its layer: what stands behind the layer's number.
function short(name, block) {
  const [, rest] = name.split(new RegExp(`\\.${block}\\.(.+)`));
  return rest ?? name;
}

function showMap() {
  const map = fleet.rank_map;
  setText(at("map-note"), map === null ? t("map.none") : t("map.note", { slots: number(map.slots) }));
  at("map-head").replaceChildren();
  at("map").replaceChildren();
  if (map === null) return;
  const columns = [...new Set(map.modules.map((name, place) => short(name, map.blocks[place])))];
  at("map-head").append(element("tr", {},
    element("th", { scope: "col", textContent: t("map.block") }),
    ...columns.map((name) => element("th", { scope: "col", textContent: name }))));
  for (const block of [...new Set(map.blocks)].sort((a, b) => b - a)) {
    const row = element("tr", {}, element("th", { scope: "row", textContent: number(block) }));
    for (const column of columns) {
      const place = map.modules.findIndex((name, index) => map.blocks[index] === block && short(name, block) === column);
      const alive = place < 0 ? null : map.alive[place];
      const level = alive === null ? 0 : Math.ceil((4 * alive) / map.slots);
      row.append(element("td", { className: `level-${level}`, textContent: alive === null ? "" : number(alive) }));
    }
    at("map").append(row);
  }
}

export function showOverview(changed) {
  const any = (...names) => names.some((name) => changed.has(name));
  if (any("run", "devices", "rounds", "rank_map")) tiles();
  if (any("run", "devices")) showRound();
  if (any("levels")) showLevels();
  if (any("rounds")) showRounds();
  if (any("rank_map")) showMap();
}
