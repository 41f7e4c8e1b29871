"""The careless user: every mistake ends in one line that says what is wrong and what to do, and loses nothing."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator import events
from edge_agent.wire import frame, topics
from edge_agent.wire import messages as m
from edge_agent.wire.link import Connected
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from tests.brokers import PASSWORD, free_port, wait_for
from tests.system.fleet import (
    DEVICES,
    NAME,
    Fleet,
    Process,
    Settings,
    assert_ends_well,
    assert_stops,
    fleet,
    toml,
    toy_rows,
    wait_event,
    write_rows,
)

SECRET = "Ottokar's confidential remark"
ONE_ROUND = Settings(rounds=1)
ALONE = Settings(rounds=1, devices=("pi-1",))
DISK_BYTES = 256 * 1024
PROTOCOL_99 = """
import sys
from edge_agent.wire import frame, messages
messages.PROTOCOL = frame.PROTOCOL = 99
from edge_agent.__main__ import main
sys.exit(main([{config!r}]))
"""


def assert_fails(process: Process, *words: str) -> None:
    """Exit status 1 and one line of reason; no traceback, nothing of what stands in the data."""
    assert process.wait() == 1, process.stderr[-3000:]
    for word in words:
        assert word in process.error
    assert "Traceback" not in process.stderr
    assert SECRET not in process.stderr


def rows_with(line: str) -> str:
    """A data file whose third line is `line`."""
    good = [json.dumps(row) for row in toy_rows(0, 6)]
    return "\n".join([*good[:2], line, *good[2:]]) + "\n"


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose coordinator waits for its devices, for ever."""
    with fleet(tmp_path_factory.mktemp("waiting"), Settings(round={"gather_s": 10**6})) as one:
        wait_event(one.start_coordinator(), events.Listening)
        yield one
        assert one.coordinator.running, one.coordinator.stderr


# Data


BAD_DATA: dict[str, tuple[str, tuple[str, ...]]] = {
    "malformed": (rows_with('{"text": "' + SECRET), ("line 3",)),
    "not an object": (rows_with(f'["{SECRET}"]'), ("line 3",)),
    "no label": (rows_with(f'{{"text": "{SECRET}"}}'), ("line 3", "label")),
    "unknown label": (rows_with(f'{{"text": "{SECRET}", "label": "gearbox"}}'), ("line 3", '"belt", "engine", "pump"')),
    "blank text": (rows_with('{"text": " ", "label": "belt"}'), ("line 3", "text")),
    "empty": ("", ("empty",)),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_is_named_by_file_and_line(waiting: Fleet, kind: str) -> None:
    text, words = BAD_DATA[kind]
    waiting.data("pi-1").write_text(text)
    assert_fails(waiting.start_agent("pi-1"), str(waiting.data("pi-1")), *words)


def test_missing_data_is_named(waiting: Fleet) -> None:
    waiting.data("pi-2").unlink()
    assert_fails(waiting.start_agent("pi-2"), str(waiting.data("pi-2")), "check the path")


def test_the_coordinator_tells_why_a_device_left_and_goes_on(tmp_path: Path) -> None:
    with fleet(tmp_path, ONE_ROUND) as one:
        one.data("pi-1").write_text(BAD_DATA["unknown label"][0])
        coordinator, agents = one.start_coordinator(), one.start_agents()
        refused = wait_event(coordinator, events.Refused)
        assert refused.device == "pi-1"
        assert "line 3" in refused.reason
        assert SECRET not in refused.reason
        assert_fails(agents["pi-1"], "line 3")
        write_rows(one.data("pi-1"), toy_rows(0))
        agents["pi-1"] = one.start_agent("pi-1")
        assert_ends_well(coordinator, agents)
        assert one.records()[0].contributors == DEVICES


# Configuration


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("colour = 1", ("colour",)),
        ("threads = 'many'", ("threads",)),
        ("threads = 0", ("threads",)),
        ("threads =", ("line",)),
        ("holdout_share = 1.5", ("holdout_share",)),
    ],
)
def test_a_bad_setting_of_an_agent_is_named(tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    with fleet(tmp_path, ALONE) as one:
        path = one.agent_config("pi-1")
        path.write_text(f"{line}\n{path.read_text()}")
        assert_fails(one.start_agent("pi-1"), str(path), *words)


@pytest.mark.parametrize(
    ("table", "key", "value", "words"),
    [
        ("round", "quorum", 9, ("round.quorum (9)", "round.expected (1)")),
        ("round", "rounds", "ten", ("round.rounds",)),
        ("training", "importance", "beauty", ("training.importance", "beauty")),
        ("broker", "port", 0, ("broker.port",)),
        ("ranks", "target", 99, ("ranks.target",)),
        ("ranks", "warmup_rounds", 9, ("ranks.warmup_rounds (9)",)),
    ],
)
def test_a_bad_setting_of_the_coordinator_is_named(
    tmp_path: Path, table: str, key: str, value: object, words: tuple[str, ...]
) -> None:
    with fleet(tmp_path, ALONE) as one:
        settings = one.coordinator_settings()
        settings[table] = {**settings[table], key: value}
        one.config.write_text(toml(settings))
        assert_fails(one.start_coordinator(), *words)


@pytest.mark.parametrize("missing", ["device", "data", "broker"])
def test_a_missing_setting_is_named(tmp_path: Path, missing: str) -> None:
    with fleet(tmp_path, ALONE) as one:
        settings = one.agent_settings("pi-1")
        del settings[missing]
        one.agent_config("pi-1").write_text(toml(settings))
        assert_fails(one.start_agent("pi-1"), missing)


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with fleet(tmp_path, ALONE) as one:
        (tmp_path / "password").unlink()
        assert_fails(one.start_agent("pi-1"), "broker.password_file", "password")
        assert_fails(one.start_coordinator(), "broker.password_file", "password")


# Broker


def test_a_wrong_password_is_told_and_ends_the_agent(waiting: Fleet) -> None:
    settings = waiting.agent_settings("pi-3")
    (waiting.folder / "wrong").write_text(SECRET)
    settings["broker"]["password_file"] = "../wrong"
    waiting.agent_config("pi-3").write_text(toml(settings))
    assert_fails(waiting.start_agent("pi-3"), f"127.0.0.1:{waiting.port}", "password")


def test_a_broker_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    with fleet(tmp_path, ALONE) as one:
        agent = one.start_agent("pi-1")
        agent.says(f"no broker at 127.0.0.1:{one.port}")
        assert_stops(agent, Process.press_ctrl_c)


def test_a_coordinator_waits_for_its_broker_too(tmp_path: Path) -> None:
    with fleet(tmp_path, Settings(port=free_port())) as one:
        coordinator = one.start_coordinator()
        coordinator.says(f"no broker at 127.0.0.1:{one.port}")
        assert_stops(coordinator, Process.terminate)


def test_a_port_in_use_is_named(waiting: Fleet, tmp_path: Path) -> None:
    with fleet(tmp_path) as other:
        other.port = waiting.port
        other.write()
        assert_fails(other.start_coordinator(), f"127.0.0.1:{waiting.port}", "in use")


# Packs and folders


def test_a_coordinator_refuses_a_pack_with_one_changed_byte(tmp_path: Path) -> None:
    with fleet(tmp_path, ALONE) as one:
        one.pack = shutil.copytree(one.pack, tmp_path / "pack")
        one.write()
        flip_byte(one.pack / "weights.bin")
        assert_fails(one.start_coordinator(), str(one.pack / "weights.bin"), "sha256")


def test_an_agent_mends_a_pack_with_one_changed_byte_before_it_trains(tmp_path: Path) -> None:
    with fleet(tmp_path, Settings(rounds=2, devices=("pi-1",))) as one:
        coordinator, agent = one.start_coordinator(), one.start_agent("pi-1")
        wait_event(coordinator, events.Received)
        assert_stops(agent, Process.terminate)
        (weights,) = one.state_dir("pi-1").glob("packs/*/weights.bin")
        good = weights.read_bytes()
        flip_byte(weights)
        agent = one.start_agent("pi-1")
        assert_ends_well(coordinator, {"pi-1": agent})
        assert weights.read_bytes() == good


def test_a_run_folder_of_another_fleet_is_left_alone(tmp_path: Path) -> None:
    with fleet(tmp_path, ALONE) as one:
        one.run()
        kept = one.checkpoint()
        one.config.write_text(toml({**one.coordinator_settings(), "seed": 7}))
        assert_fails(one.start_coordinator(), "run", "another fleet", "seed")
        assert one.checkpoint() == kept


def test_a_second_agent_in_one_state_folder_is_refused(waiting: Fleet) -> None:
    write_rows(waiting.data("pi-2"), toy_rows(1))
    first = waiting.start_agent("pi-2")
    first.says("connected to the broker")
    assert_fails(waiting.start_agent("pi-2"), f"another agent is running in {waiting.state_dir('pi-2')}")
    assert first.running
    assert_stops(first, Process.terminate)


def test_a_second_coordinator_in_one_run_folder_is_refused(tmp_path: Path) -> None:
    with fleet(tmp_path) as one:
        first = one.start_coordinator()
        wait_event(first, events.Listening)
        assert_fails(one.start_coordinator(), f"another coordinator is running in {one.run_dir}")
        assert first.running


# Protocol, disk


def test_an_agent_of_another_protocol_version_is_told_so_on_both_sides(waiting: Fleet) -> None:
    write_rows(waiting.data("pi-2"), toy_rows(1))
    code = PROTOCOL_99.format(config=str(waiting.agent_config("pi-2")))
    agent = waiting.start_python("pi-2", code)
    assert_fails(agent, "protocol 99", f"the other side {m.PROTOCOL}", "update")
    refused = wait_event(waiting.coordinator, events.Refused, lambda event: "protocol" in event.reason)
    assert refused.device == "pi-2"
    assert f"protocol {m.PROTOCOL}, the other side 99" in refused.reason


def test_garbage_from_a_device_changes_nothing(waiting: Fleet) -> None:
    """A truncated frame, bytes that are none, a message of the other direction, one sent twice."""
    hello = frame.encode(m.Hello("0", None, 0), 1, 1)
    leave = frame.encode(m.Leave("go away"), 1, 2)
    settings = MqttSettings("127.0.0.1", waiting.port, "stranger", "pi-3", PASSWORD, "3.1.1")
    link = MqttLink(settings, ())
    wait_for(link, Connected)
    for payload in (b"", b"RF", hello[:-1], SECRET.encode(), bytes(100_000), leave, hello, hello):
        assert link.publish(topics.up(NAME, "pi-3"), payload)
    link.close()
    waiting.write()
    agent = waiting.start_agent("pi-3")
    joined = wait_event(waiting.coordinator, events.Joined, lambda event: event.device == "pi-3")
    assert joined.examples > 0
    assert_stops(agent, Process.terminate)
    assert "Traceback" not in waiting.coordinator.stderr


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with fleet(tmp_path, ALONE) as one, small_disk(one.state_dir("pi-1")):
        coordinator, agent = one.start_coordinator(), one.start_agent("pi-1")
        assert_fails(agent, "bytes", "free")
        kept = sorted(path.name for path in one.state_dir("pi-1").rglob("*"))
        assert "agent.db" in kept
        enlarge(one.state_dir("pi-1"))
        assert_ends_well(coordinator, {"pi-1": one.start_agent("pi-1")})


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of `DISK_BYTES` at `folder`."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{getpass.getuser()} MAY NOT MOUNT, so a full disk is NOT tested: run the tests as root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def enlarge(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
