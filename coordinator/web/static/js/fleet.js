// What the gateway tells of the fleet: everything once, then what has changed. See coordinator/web/state.py.

const COLUMNS = [
  "online", "part", "late", "examples", "holdout", "budget", "memory", "peak", "temperature", "ranks", "version",
  "phase", "step", "steps", "note", "answered_round",
];
const PARTS = ["run", "levels", "rank_map"];

export const fleet = {
  run: null, levels: [], rank_map: null,
  devices: new Map(), rounds: new Map(), requests: new Map(),
  ahead_s: 0,
};

// How far the gateway's clock is from here: durations count from its dates.
export const gatewayNow = () => Date.now() / 1000 + fleet.ahead_s;

function device(row) {
  return Object.fromEntries(COLUMNS.map((name, place) => [name, row[place]]));
}

export function take(message, isFirst) {
  const changed = new Set();
  fleet.ahead_s = message.now_s - Date.now() / 1000;
  if (isFirst) for (const table of ["devices", "rounds", "requests"]) fleet[table].clear();
  for (const part of PARTS) {
    if (part in message) {
      fleet[part] = message[part];
      changed.add(part);
    }
  }
  for (const table of ["devices", "rounds", "requests"]) {
    for (const [key, row] of Object.entries(message[table] ?? {})) {
      fleet[table].set(key, table === "devices" ? device(row) : row);
      changed.add(table);
    }
    for (const key of message.gone?.[table] ?? []) {
      fleet[table].delete(key);
      changed.add(table);
    }
  }
  return changed;
}

// `onState` hears "live", "lost", "failed" or "out"; `onChange` the parts that changed.
export function follow(onState, onChange) {
  let isFirst = true;
  const source = new EventSource("/api/events");
  source.onopen = () => {
    isFirst = true;
  };
  source.onmessage = (event) => {
    const changed = take(JSON.parse(event.data), isFirst);
    isFirst = false;
    onState("live");
    onChange(changed);
  };
  source.addEventListener("failure", () => {
    isFirst = true;
    onState("failed");
  });
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) {
      onState("lost");
      return;
    }
    // The browser gives up where the answer is no stream: we are logged out, or the gateway is restarting.
    onState("lost");
    setTimeout(async () => {
      const found = await fetch("/api/devices/-", { redirect: "manual" }).catch(() => null);
      if (found?.status === 401) onState("out");
      else follow(onState, onChange);
    }, 2000);
  };
}
