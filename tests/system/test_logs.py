"""The logs of a fleet as JSON: one line an event, with the same ids on both sides, and the board's metrics beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.system.fleet import NAME, NO_VARIABLES, Process, Settings, assert_ends_well, fleet

IDS = {"fleet", "run", "round", "device"}


def lines(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.stderr.splitlines()]


def test_agent_and_coordinator_log_the_same_ids(tmp_path: Path) -> None:
    metrics = tmp_path / "rankfleet.prom"
    settings = Settings(devices=("pi-1",), rounds=2, agents={"pi-1": {"metrics_file": str(metrics)}})
    with fleet(tmp_path / "fleet", settings) as one:
        form = ("--log", "json")
        coordinator = one._start("coordinator", ("coordinator", "run", str(one.config), *form), NO_VARIABLES)
        agent = one._start("pi-1", ("agent", "run", str(one.agent_config("pi-1")), *form), NO_VARIABLES)
        assert_ends_well(coordinator, {"pi-1": agent})
        assert coordinator.lines == [], "what happens is in the log alone"
        ours, theirs = lines(coordinator), lines(agent)
    for line in (*ours, *theirs):
        assert {"date", "level", "logger", "event"} <= line.keys(), line
    (run,) = {line["run"] for line in ours if "run" in line}
    trained = next(line for line in theirs if line["event"].endswith("-> training"))
    assert {key: trained[key] for key in IDS} == {"fleet": NAME, "run": run, "round": 1, "device": "pi-1"}
    received = [line for line in ours if line["event"] == "received"]
    assert [{key: line[key] for key in IDS} for line in received] == [
        {"fleet": NAME, "run": run, "round": number, "device": "pi-1"} for number in (1, 2)
    ]
    assert not any(line["event"] == "training" for line in ours), "that is of level debug"
    assert "\nrankfleet_agent_connected " in metrics.read_text()
