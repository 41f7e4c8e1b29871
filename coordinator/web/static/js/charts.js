// Charts of the rounds, by uPlot. Each has a text; the table of the rounds has every value.

import { at } from "./dom.js";
import { fleet } from "./fleet.js";
import { bytes, decimals, number, percent, t } from "./text.js";

const CHARTS = [
  { id: "accuracy", label: "charts.accuracy", format: percent, series: [(one) => one.accuracy] },
  { id: "loss", label: "charts.loss", format: decimals, series: [(one) => one.loss] },
  { id: "ranks", label: "charts.ranks", format: number, series: [(one) => one.ranks_alive] },
  { id: "bytes", label: "charts.bytes", format: bytes, series: [(one) => one.updates_bytes, (one) => one.delta_bytes] },
];
const HEIGHT = 190;
const made = new Map();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function options(chart, width) {
  const [text, line] = [colour("--quiet"), colour("--line")];
  const strokes = [colour("--accent"), colour("--series-2")];
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return {
    width, height: HEIGHT, legend: { show: false }, cursor: { show: false },
    scales: { x: { time: false } },
    axes: [
      { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] },
      { ...axis, size: 70, values: (_, marks) => marks.map((one) => chart.format(one)) },
    ],
    series: [
      {},
      ...chart.series.map((_, place) => ({
        stroke: strokes[place], width: 2, spanGaps: true, points: { show: true, size: 5 }, dash: place ? [6, 4] : [],
      })),
    ],
  };
}

function text(chart, rounds) {
  const values = rounds.map(chart.series[0]).filter((one) => one !== null);
  return t("charts.text", {
    what: t(chart.label), first: number(rounds[0].round), last: number(rounds.at(-1).round),
    value: chart.format(values.at(-1) ?? null),
  });
}

export function drawCharts() {
  const rounds = [...fleet.rounds.values()];
  at("charts").hidden = rounds.length === 0;
  at("charts-none").hidden = rounds.length > 0;
  if (rounds.length === 0 || at("charts").clientWidth === 0) return;
  for (const chart of CHARTS) {
    const place = at(`chart-${chart.id}`);
    const data = [rounds.map((one) => one.round), ...chart.series.map((value) => rounds.map(value))];
    place.setAttribute("aria-label", text(chart, rounds));
    const known = made.get(chart.id);
    if (known) known.setData(data);
    else made.set(chart.id, new window.uPlot(options(chart, place.clientWidth), data, place));
  }
}

function again() {
  for (const chart of made.values()) chart.destroy();
  made.clear();
  drawCharts();
}

let width = 0;
new ResizeObserver(() => {
  if (Math.abs(at("charts").clientWidth - width) > 1) {
    width = at("charts").clientWidth;
    again();
  }
}).observe(at("charts"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
