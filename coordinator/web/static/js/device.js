// The page of one device: its figures, what its last rounds cost by phase, and what happened to it.

import { at, cells, element, fillRows, fillTiles, setText } from "./dom.js";
import { part, presence } from "./devices.js";
import { fleet } from "./fleet.js";
import { bytes, day, degrees, duration, has, number, t } from "./text.js";

let asked = "";

function tiles(name) {
  const one = fleet.devices.get(name);
  if (one === undefined) return fillTiles(at("device-tiles"), []);
  return fillTiles(at("device-tiles"), [
    [t("column.presence"), presence(one)],
    [t("column.part"), part(one) || "–"],
    [t("column.budget"), bytes(one.budget)],
    [t("column.memory"), bytes(one.memory)],
    [t("column.peak"), bytes(one.peak)],
    [t("column.temperature"), degrees(one.temperature)],
    [t("column.ranks"), number(one.ranks)],
    [t("column.examples"), number(one.examples)],
    [t("column.holdout"), number(one.holdout)],
    [t("column.version"), number(one.version)],
    [t("column.answered_round"), number(one.answered_round)],
    [t("column.note"), one.note || "–"],
  ]);
}

function showPhases(rounds) {
  at("phases-none").hidden = rounds.length > 0;
  const heads = ["rounds.round", "device.phase", "device.wall", "device.cpu", "device.rss", "device.anonymous"];
  at("phases-head").replaceChildren();
  at("phases").replaceChildren();
  if (rounds.length === 0) return;
  at("phases-head").append(element("tr", {}, ...heads.map((key, place) =>
    element("th", { scope: "col", textContent: t(key), className: place > 1 ? "number" : "" }))));
  for (const { round, report } of rounds) {
    for (const phase of report.phases) {
      const values = [
        number(round), phase.name, duration(phase.wall_s), duration(phase.cpu_s), bytes(phase.rss_bytes),
        bytes(phase.anonymous_bytes),
      ];
      const row = cells(values.length, true);
      values.forEach((value, place) => {
        row.children[place].textContent = value;
        if (place > 1) row.children[place].className = "number";
      });
      at("phases").append(row);
    }
  }
}

function showLog(log) {
  fillRows(at("log"), log.map((_, place) => String(place)), () => cells(4, false), (row, key) => {
    const [date_s, event, , round, text] = log[Number(key)];
    const values = [day(date_s), has(`event.${event}`) ? t(`event.${event}`) : event, round === null ? "" : number(round), text];
    values.forEach((value, place) => setText(row.children[place], value));
    row.children[3].className = "note";
  });
}

// Asks for phases and log again; `isNew` where another device is shown.
export async function showDevice(name, isNew) {
  asked = name;
  setText(at("device-name"), name);
  tiles(name);
  if (isNew) {
    showPhases([]);
    showLog([]);
  }
  const answer = await fetch(`/api/devices/${encodeURIComponent(name)}`).catch(() => null);
  if (answer === null || asked !== name) return;
  if (answer.status === 404) setText(at("problem"), t("device.missing"));
  if (!answer.ok) return;
  const page = await answer.json();
  setText(at("problem"), "");
  showPhases(page.rounds);
  showLog(page.log);
}
