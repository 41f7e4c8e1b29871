// The table of devices: filtered, sorted, and one page of it at a time, so that a thousand stay usable.

import { at, cells, element, fillRows, setText } from "./dom.js";
import { fleet } from "./fleet.js";
import { bytes, degrees, language, number, t } from "./text.js";

const PAGE = 50;
const COLUMNS = [
  { name: "name", value: ([name]) => name, show: ([name]) => name },
  { name: "presence", value: ([, one]) => (one.online ? 0 : 1), show: ([, one]) => presence(one) },
  { name: "part", value: ([, one]) => order(one), show: ([, one]) => part(one) },
  { name: "budget", number: true, value: ([, one]) => one.budget, show: ([, one]) => bytes(one.budget) },
  { name: "peak", number: true, spare: true, value: ([, one]) => one.peak, show: ([, one]) => bytes(one.peak) },
  {
    name: "temperature", number: true, spare: true, value: ([, one]) => one.temperature,
    show: ([, one]) => degrees(one.temperature),
  },
  { name: "ranks", number: true, value: ([, one]) => one.ranks, show: ([, one]) => number(one.ranks) },
  { name: "examples", number: true, value: ([, one]) => one.examples, show: ([, one]) => number(one.examples) },
  { name: "version", number: true, spare: true, value: ([, one]) => one.version, show: ([, one]) => number(one.version) },
  { name: "note", value: ([, one]) => one.note, show: ([, one]) => one.note },
];
const SHOWN = {
  all: () => true,
  online: (one) => one.online,
  offline: (one) => !one.online,
  pending: (one) => one.part === "pending",
  late: (one) => one.late,
  trouble: (one) => one.note !== "",
};
const collator = new Intl.Collator(language, { numeric: true });
const view = { page: 0, column: "name", down: false };

export const presence = (one) => t(one.online ? "presence.online" : "presence.offline");

const order = (one) => (one.late ? 0 : { pending: 1, answered: 2 }[one.part] ?? 3);

export function part(one) {
  if (one.part === "") return t("part.none");
  const said = t(one.late ? "part.late" : `part.${one.part}`);
  if (one.steps === null) return said;
  return `${said}: ${t("part.step", { phase: one.phase, step: number(one.step), steps: number(one.steps) })}`;
}

function compare(left, right) {
  if (left === right) return 0;
  if (left === null || left === undefined) return 1;
  if (right === null || right === undefined) return -1;
  return typeof left === "string" ? collator.compare(left, right) : left - right;
}

function wanted() {
  const text = at("search").value.trim().toLowerCase();
  const is = SHOWN[at("show").value];
  const column = COLUMNS.find((one) => one.name === view.column);
  const sign = view.down ? -1 : 1;
  return [...fleet.devices]
    .filter(([name, one]) => name.toLowerCase().includes(text) && is(one))
    .sort((a, b) => sign * compare(column.value(a), column.value(b)) || collator.compare(a[0], b[0]));
}

function makeRow(key) {
  const row = cells(COLUMNS.length, true);
  row.children[0].append(element("a", { href: `#/devices/${encodeURIComponent(key)}`, textContent: key }));
  COLUMNS.forEach((column, place) => {
    const names = [column.number ? "number" : "", column.spare ? "spare" : "", column.name === "note" ? "note" : ""];
    row.children[place].className = names.filter(Boolean).join(" ");
  });
  return row;
}

function updateRow(row, key) {
  const entry = [key, fleet.devices.get(key)];
  COLUMNS.forEach((column, place) => {
    if (place) setText(row.children[place], column.show(entry));
  });
  row.children[1].classList.toggle("good", entry[1].online);
  row.children[1].classList.toggle("bad", !entry[1].online);
  row.children[2].classList.toggle("warn", entry[1].late);
}

export function showDevices() {
  const found = wanted();
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  view.page = Math.min(view.page, pages - 1);
  setText(at("devices-count"), t("devices.count", { count: number(found.length), total: number(fleet.devices.size) }));
  setText(at("page"), t("devices.page", { page: number(view.page + 1), pages: number(pages) }));
  at("previous").disabled = view.page === 0;
  at("next").disabled = view.page >= pages - 1;
  const keys = found.slice(view.page * PAGE, (view.page + 1) * PAGE).map(([name]) => name);
  fillRows(at("devices"), keys, makeRow, updateRow);
}

function head() {
  COLUMNS.forEach((column) => {
    const button = element("button", { type: "button", textContent: t(`column.${column.name}`) });
    const cell = element("th", { scope: "col" }, button);
    cell.className = [column.number ? "number" : "", column.spare ? "spare" : ""].filter(Boolean).join(" ");
    button.addEventListener("click", () => {
      view.down = view.column === column.name && !view.down;
      view.column = column.name;
      sorted();
      showDevices();
    });
    at("devices-head").append(cell);
  });
  sorted();
}

function sorted() {
  COLUMNS.forEach((column, place) => {
    const cell = at("devices-head").children[place];
    if (column.name === view.column) cell.setAttribute("aria-sort", view.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
}

export function beginDevices() {
  head();
  const again = () => {
    view.page = 0;
    showDevices();
  };
  at("search").addEventListener("input", again);
  at("show").addEventListener("change", again);
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("previous").addEventListener("click", () => {
    view.page -= 1;
    showDevices();
  });
  at("next").addEventListener("click", () => {
    view.page += 1;
    showDevices();
  });
}
