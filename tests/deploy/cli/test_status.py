"""`rankfleet status` as a person and as a script see it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from coordinator.store import Contribution, DeviceRow, Store
from deploy.cli.main import main
from deploy.folders import AGENT_DB, COORDINATOR_DB
from edge_agent.store import Outgoing
from edge_agent.store import Store as AgentStore
from edge_agent.wire import messages as m
from tests.runs import CAPABILITY, make_agent, make_config, make_record, make_run, make_state, start_run

READY = m.Ready(bytes(32), 40, 6, 12, 2, CAPABILITY)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["status", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_run_with_rounds_and_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(make_run(make_config(tmp_path), make_state(2)) / COORDINATOR_DB)
    store.keep_device(DeviceRow("pi-1", 1, 5, True, msgspec.msgpack.encode(READY), ""))
    store.keep_device(DeviceRow("pi-2", 1, 1, False, None, "the connection was lost"))
    store.close()
    lines = call(capsys, str(tmp_path))
    assert lines[0] == "fleet depot: 2 of 4 rounds closed, 58 ranks alive"
    assert lines[3].split() == ["1", "0.200", "2.000", "59", "18", "2", "2.5", "MB", "42.0", "kB", "3.2", "s"]
    assert lines[7].split() == ["pi-1", "yes", "40", "200.0", "MB", "2"]
    assert lines[8].split() == ["pi-2", "no", "-", "-", "-", "the", "connection", "was", "lost"]


def test_a_round_in_which_nobody_trained_has_no_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(make_run(make_config(tmp_path), make_state(1)) / COORDINATOR_DB)
    checkpoint = store.checkpoint()
    assert checkpoint is not None
    record = msgspec.structs.replace(make_record(2), loss=None)
    store.close_round(2, checkpoint._replace(version=2), b"delta", msgspec.json.encode(record))
    store.close()
    lines = call(capsys, str(tmp_path))
    assert lines[4].split()[:4] == ["2", "0.400", "-", "58"]
    assert len(lines[4]) == len(lines[3])


def test_headers_stand_over_their_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(make_run(make_config(tmp_path), make_state(1)) / COORDINATOR_DB)
    store.keep_device(DeviceRow("pi-1", 1, 5, True, msgspec.msgpack.encode(READY), "late"))
    store.close()
    _, _, rounds, record, _, devices, device = call(capsys, str(tmp_path))
    assert len(rounds) == len(record)
    assert devices.index("note") == device.index("late")


def test_an_open_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_run(make_config(tmp_path))
    store = Store(tmp_path / COORDINATOR_DB)
    for device in ("pi-1", "pi-2"):
        store.keep_plan(1, device, b"plan")
    store.keep_contribution(1, Contribution("pi-1", bytes(32), b"report", b"body", 1))
    assert call(capsys, str(tmp_path)) == [
        "fleet depot: round 1 of 4 is open, 1 of 2 updates are in, waiting for pi-2, all ranks alive"
    ]
    store.close()


def test_the_last_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "4 of 4 rounds closed (the last)" in call(capsys, str(make_run(make_config(tmp_path), make_state(4))))[0]


def test_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = AgentStore(make_agent(tmp_path, make_state(2)) / AGENT_DB)
    assert call(capsys, str(tmp_path))[3] == "  outbox   empty"
    model = store.model()
    assert model is not None
    store.keep_round(model, Outgoing(3, bytes(32), b"update", b"report"))
    store.close()
    assert call(capsys, str(tmp_path)) == [
        "fleet depot: 3 classes, boot 1",
        "  model    model, state of version 2",
        "  budget   not measured yet",
        "  outbox   update of round 3, 0.0 kB, not yet with the coordinator",
        "  traffic  sent 0.0 kB, received 0.0 kB, and 0.0 kB for the pack",
    ]


def test_an_agent_that_joined_no_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    AgentStore(tmp_path / AGENT_DB).close()
    assert call(capsys, str(tmp_path)) == ["no fleet joined yet, boot 0"]


def test_json_is_the_whole_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = json.loads("\n".join(call(capsys, str(make_run(make_config(tmp_path / "run"), make_state(2))), "--json")))
    assert (run["closed"], run["records"][1]["accuracy"]) == (2, 0.4)
    agent = json.loads("\n".join(call(capsys, str(make_agent(tmp_path / "agent", make_state(2))), "--json")))
    assert (agent["version"], agent["model"]) == (2, "model")


def test_any_other_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 1
    assert COORDINATOR_DB in capsys.readouterr().err
