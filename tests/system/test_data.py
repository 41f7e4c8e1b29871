"""Data that grow while a fleet of real processes runs, and who may read what its agents write."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec

from coordinator import events
from coordinator.run import DATABASE
from coordinator.store import Store
from edge_agent.wire import messages as m
from tests.system.fleet import (
    ROWS,
    TIMEOUT_S,
    Fleet,
    Settings,
    assert_ends_well,
    fleet,
    of_kind,
    opened,
    told,
    toy_rows,
    wait_event,
    wait_until,
    write_rows,
)

ROUNDS = 6
GROWING = Settings(
    rounds=ROUNDS,
    devices=("pi-1", "pi-2"),
    agents={"pi-1": {"data": "texts", "data_check_s": 0.2}},
    round={"gather_s": 10**6},
)


def add(one: Fleet, name: str, seed: int) -> None:
    """A file is written under a name that is none of data, then gets its own."""
    folder = one.agent_folder("pi-1") / "texts"
    folder.mkdir(exist_ok=True)
    write_rows(folder / f"{name}.part", toy_rows(seed))
    (folder / f"{name}.part").rename(folder / name)


def ready_examples(one: Fleet) -> int:
    """What the coordinator knows of the device's examples, held-out ones included."""
    with opened(Store(one.run_dir / DATABASE, read_only=True)) as store:
        bodies = [row.ready for row in store.devices() if row.name == "pi-1" and row.ready]
    readies = [msgspec.msgpack.decode(body, type=m.Ready) for body in bodies]
    return sum(ready.examples + ready.holdout for ready in readies)


def test_later_rounds_count_more_examples_where_a_file_is_added_while_the_fleet_runs(tmp_path: Path) -> None:
    with fleet(tmp_path, GROWING) as one:
        add(one, "a.jsonl", 1)
        coordinator = one.start_coordinator()
        agents = {"pi-1": one.start_agent("pi-1")}
        wait_event(coordinator, events.Joined)
        assert ready_examples(one) == ROWS
        add(one, "b.jsonl", 2)  # nothing is trained yet: the device waits, and looks
        wait_until(lambda: ready_examples(one) == 2 * ROWS, TIMEOUT_S, lambda: agents["pi-1"].stderr)
        agents["pi-2"] = one.start_agent("pi-2")
        wait_event(coordinator, events.Received, lambda event: event.device == "pi-1")
        add(one, "c.jsonl", 3)
        assert_ends_well(coordinator, agents)
        reports = {e.round: e.report for e in of_kind(told(coordinator), events.Received) if e.device == "pi-1"}
        rows = [reports[number].examples + reports[number].holdout_total for number in sorted(reports)]
        assert rows[0] == 2 * ROWS and rows[-1] == 3 * ROWS and rows == sorted(rows)
        held = [reports[number].holdout_total for number in sorted(reports)]
        assert held == sorted(held), "what is held out stays so"
        assert len({record.examples for record in one.records()}) > 1


def test_what_an_agent_writes_is_its_users_alone_and_open_data_are_told_of(tmp_path: Path) -> None:
    with fleet(tmp_path, Settings(rounds=2, devices=("pi-1",), local_training={"checkpoint_s": 0.01})) as one:
        one.state_dir("pi-1").mkdir(mode=0o755)
        one.data("pi-1").chmod(0o644)
        for folder in (one.agent_folder("pi-1"), *one.agent_folder("pi-1").parents):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
        coordinator, agent = one.start_coordinator(), one.start_agent("pi-1")
        assert_ends_well(coordinator, {"pi-1": agent})
        made = [one.state_dir("pi-1"), *one.state_dir("pi-1").rglob("*")]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}
        assert {"agent.db", "packs", "lock"} <= modes.keys()
        assert not {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
        assert "others could use 1 files and folders of the agent" in agent.stderr
        assert f"1 data files, {one.data('pi-1')} first, can be read by every user" in agent.stderr
