"""The demo's processes: what they tell, how they fail, and that none is left. Shell scripts stand in for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from coordinator import events
from deploy.demo import processes
from deploy.demo.layout import Device, Files
from deploy.demo.processes import Fleet
from deploy.demo.settings import BOARDS
from edge_agent.wire.errors import RankfleetError

TOLD = (events.Listening("127.0.0.1", 1883, "demo"), events.Waiting("0 of 1 devices are ready"), events.Done(1, ()))
TELL = "\n".join(f"echo '{msgspec.json.encode(event).decode()}'" for event in TOLD)
STUBBORN = "trap '' TERM\n"
PATIENCE_S = 10.0
GONE_S = 5.0


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m deploy.cli.main agent run CONFIG` runs CONFIG as a shell script, its process id kept beside it."""
    script = tmp_path / "stand-in"
    script.write_text('#!/bin/sh\necho $$ > "$5.pid"\nexec sh "$5"\n')
    script.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(script))
    monkeypatch.setattr(processes, "STOP_S", 0.5)


def make_files(out: Path, coordinator: str, **agents: str) -> Files:
    (out / "coordinator.toml").write_text(coordinator)
    devices = []
    for name, script in agents.items():
        folder = out / name
        folder.mkdir()
        (folder / "agent.toml").write_text(script)
        files = (folder / "agent.toml", folder / "train.jsonl", folder / "state", folder / "agent.log")
        devices.append(Device(name, BOARDS[0], *files))
    return Files(out, out, out / "coordinator.toml", out, out, tuple(devices))


def running(folder: Path, count: int) -> list[psutil.Process]:
    """The processes whose ids are beside their scripts, once there are `count` of them."""
    limit_s = time.monotonic() + PATIENCE_S
    while True:
        ids = [path.read_text().strip() for path in folder.rglob("*.pid")]
        if len(ids) == count and all(ids):
            return [psutil.Process(int(found)) for found in ids]
        assert time.monotonic() < limit_s, f"{len(ids)} of {count} processes started"
        time.sleep(0.01)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(found: list[psutil.Process]) -> bool:
    """A grandchild that was killed is gone a moment later: nobody waits for it."""
    deadline_s = time.monotonic() + GONE_S
    while any(map(alive, found)):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[Files]:
    """Processes that do not end when asked, one of them with a child."""
    child = f"(echo $$ > /dev/null; {STUBBORN} exec sleep 1000) & echo $! > {tmp_path}/child.pid\nwait\n"
    return make_files(tmp_path, STUBBORN + "sleep 1000", a=STUBBORN + child, b=STUBBORN + "sleep 1000")


def test_what_the_coordinator_tells_until_it_ends(tmp_path: Path) -> None:
    with Fleet(make_files(tmp_path, TELL, a="exit 0")) as fleet:
        assert tuple(fleet.events()) == TOLD


@pytest.mark.parametrize(
    ("coordinator", "agent", "who"),
    [
        ("sleep 1000", "echo some line; echo the disk is full >&2; exit 3", "agent a failed with status 3"),
        ("echo the disk is full >&2; exit 3", "sleep 1000", "the coordinator failed with status 3"),
        (f"{TELL}\nsleep 0.1", "sleep 0.3; echo the disk is full; exit 3", "agent a failed with status 3"),
    ],
    ids=["an agent", "the coordinator", "an agent at the end"],
)
def test_a_process_that_fails_is_an_error_that_quotes_its_log(
    tmp_path: Path, coordinator: str, agent: str, who: str
) -> None:
    with pytest.raises(RankfleetError, match=who) as caught, Fleet(make_files(tmp_path, coordinator, a=agent)) as fleet:
        list(fleet.events())
    assert "    the disk is full" in str(caught.value)


def test_only_the_end_of_a_log_is_quoted(tmp_path: Path) -> None:
    files = make_files(tmp_path, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i. >&2; done; exit 1")
    with pytest.raises(RankfleetError) as caught, Fleet(files) as fleet:
        list(fleet.events())
    assert "line 12." in str(caught.value)
    assert "line 4." not in str(caught.value)


def test_an_agent_that_does_not_end_with_the_run_is_an_error(tmp_path: Path) -> None:
    files = make_files(tmp_path, TELL, a="sleep 1000")
    with pytest.raises(RankfleetError, match="agent a did not end"), Fleet(files) as fleet:
        list(fleet.events())


@pytest.mark.parametrize("error", [RankfleetError("failed"), KeyboardInterrupt()])
def test_no_process_is_left_whatever_ends_the_demo(tmp_path: Path, stubborn: Files, error: BaseException) -> None:
    with pytest.raises(type(error)), Fleet(stubborn):
        found = running(tmp_path, 4)
        raise error
    assert gone(found)


def test_no_process_is_left_where_one_cannot_be_started(tmp_path: Path, stubborn: Files) -> None:
    last = stubborn.devices[-1]
    broken = Device(last.name, last.board, last.config, last.data, last.state_dir, tmp_path / "nowhere" / "log")
    fleet = Fleet(Files(*(tmp_path, tmp_path, stubborn.coordinator, tmp_path, tmp_path), (*stubborn.devices, broken)))
    others = psutil.Process().children(recursive=True)
    with pytest.raises(FileNotFoundError), fleet:
        raise AssertionError("it has not started")
    assert gone([child for child in psutil.Process().children(recursive=True) if child not in others])


def test_a_second_interruption_ends_them_at_once(
    tmp_path: Path, stubborn: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Fleet(stubborn):
        found = running(tmp_path, 4)
        monkeypatch.setattr(processes.time, "monotonic", interrupted)
    monkeypatch.undo()
    assert gone(found)
