// The page: which part of it is shown, and what the stream of changes touches.

import { beginActions, showRequests } from "./actions.js";
import { drawCharts } from "./charts.js";
import { showDevice } from "./device.js";
import { beginDevices, showDevices } from "./devices.js";
import { at, setText } from "./dom.js";
import { follow } from "./fleet.js";
import { showOverview, showRound } from "./overview.js";
import { t } from "./text.js";

const DEVICE_AGAIN_MS = 5000;
const views = [...document.querySelectorAll("[data-view]")];
let shown = { view: "overview", device: null };
let askedAt = 0;

function place() {
  const [, first = "", second] = location.hash.split("/");
  if (first === "devices" && second) return { view: "device", device: decodeURIComponent(second) };
  return { view: ["devices", "requests"].includes(first) ? first : "overview", device: null };
}

function route(moves) {
  if (location.hash === "#main") return;
  const isNew = place().device !== shown.device;
  shown = place();
  for (const one of views) one.hidden = one.dataset.view !== shown.view;
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (link.dataset.nav === shown.view.replace(/^device$/, "devices")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  setText(at("problem"), "");
  if (shown.view === "overview") drawCharts();
  if (shown.view === "devices") showDevices();
  if (shown.view === "device") showDevice(shown.device, isNew);
  const heading = document.querySelector(`[data-view=${shown.view}] h1`);
  const { content } = document.querySelector("meta[name=fleet]");
  document.title = `${heading.textContent} · ${content} · rankfleet`;
  if (moves) heading.focus();
}

function onState(state) {
  if (state === "out") {
    location.assign("/login");
    return;
  }
  setText(at("connection"), t(`connection.${state}`));
  at("connection").className = `pill ${state === "live" ? "good" : "bad"}`;
  document.documentElement.dataset.state = state;
}

function onChange(changed) {
  showOverview(changed);
  if (changed.has("requests")) showRequests();
  if (changed.has("devices") && shown.view === "devices") showDevices();
  if (changed.has("devices") && shown.view === "device" && Date.now() - askedAt > DEVICE_AGAIN_MS) {
    askedAt = Date.now();
    showDevice(shown.device, false);
  }
}

beginDevices();
beginActions();
addEventListener("hashchange", () => route(true));
route(false);
setInterval(showRound, 1000);
follow(onState, onChange);
