// What an operator decides: asked for again in a dialog, then sent with the session's token.

import { at, cells, element, fillRows, setText } from "./dom.js";
import { fleet } from "./fleet.js";
import { day, number, t } from "./text.js";

const csrf = document.querySelector("meta[name=csrf]").content;

function confirmed(title, text, yes, { detail = "", asksReason = false, isDanger = false } = {}) {
  const dialog = at("confirm");
  setText(at("confirm-title"), title);
  setText(at("confirm-text"), text);
  setText(at("confirm-detail"), detail);
  at("confirm-detail").hidden = detail === "";
  at("confirm-reason").hidden = !asksReason;
  at("reason").value = "";
  setText(at("confirm-yes"), yes);
  at("confirm-yes").className = isDanger ? "danger" : "primary";
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function send(path, body, done) {
  setText(at("problem"), "");
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": csrf },
    body: JSON.stringify(body),
  }).catch((error) => ({ ok: false, json: async () => ({ error: error.message }) }));
  if (answer.ok) setText(at("announce"), done);
  else setText(at("problem"), t("failed", { error: (await answer.json()).error }));
}

async function order(name) {
  const ok = await confirmed(t(`confirm.${name}.title`), t(`confirm.${name}.text`), t(`rounds.${name}`), {
    isDanger: name === "stop",
  });
  if (ok) await send(`/api/rounds/${name}`, {}, t(`done.${name}`));
}

async function decide(id, decision) {
  const request = fleet.requests.get(id);
  if (request === undefined) return;
  const { device, fingerprint } = request;
  const ok = await confirmed(
    t(`confirm.${decision}.title`, { device }), t(`confirm.${decision}.text`), t(`requests.${decision}`),
    { detail: fingerprint, asksReason: decision === "reject", isDanger: decision === "reject" },
  );
  const body = decision === "reject" ? { reason: at("reason").value } : {};
  if (ok) await send(`/api/requests/${id}/${decision}`, body, t(`done.${decision}`, { device }));
}

function button(id, decision, device) {
  const made = element("button", {
    type: "button", textContent: t(`requests.${decision}`), "aria-label": `${t(`requests.${decision}`)}: ${device}`,
  });
  if (decision === "reject") made.className = "danger";
  made.addEventListener("click", () => decide(id, decision));
  return made;
}

export function showRequests() {
  const keys = [...fleet.requests.keys()];
  at("requests-none").hidden = keys.length > 0;
  at("requests-table").hidden = keys.length === 0;
  at("waiting-count").hidden = keys.length === 0;
  setText(at("waiting-count"), number(keys.length));
  fillRows(
    at("requests"), keys,
    (key) => {
      const { device } = fleet.requests.get(key);
      const row = cells(4, true);
      row.children[1].className = "code";
      row.children[3].append(element("div", { className: "buttons" }, button(key, "approve", device), button(key, "reject", device)));
      return row;
    },
    (row, key) => {
      const one = fleet.requests.get(key);
      [one.device, one.fingerprint, day(one.date_s)].forEach((value, place) => setText(row.children[place], value));
    },
  );
}

export function beginActions() {
  for (const name of ["pause", "resume", "start", "stop"]) at(name).addEventListener("click", () => order(name));
}
