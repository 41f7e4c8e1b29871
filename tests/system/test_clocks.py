"""Wall clocks that are wrong, or jump by decades: nothing but the dates of records depends on them.

Real processes, between which and the C library stands `wrong_clock.c`; monotonic time is left alone, as on a board
whose clock is set. Child processes have the same clock.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from coordinator import events
from edge_agent import capability
from edge_agent.store import Model
from edge_agent.store import Store as AgentStore
from tests.runs import CAPABILITY
from tests.system.fleet import Fleet, Settings, assert_ends_well, fleet, of_kind, opened, told, wait_event

DEVICES = ("pi-1", "pi-2")
DAY_S = 86_400
YEAR_S = 365.25 * DAY_S


class Clock:
    """A wall clock for processes that start with its `variables`; `library` is `wrong_clock.c`, compiled."""

    def __init__(self, file: Path, library: Path, year: int) -> None:
        self._file = file
        self._library = library
        self.set(year)

    def set(self, year: int) -> None:
        """Jumps into the first days of that year, for whoever has this clock already."""
        wrong_by_s = (year - 1970) * YEAR_S + DAY_S - time.time()
        new = self._file.with_suffix(".new")
        new.write_text(f"{wrong_by_s:.0f}")
        new.replace(self._file)

    @property
    def variables(self) -> Mapping[str, str]:
        return {"LD_PRELOAD": str(self._library), "WRONG_CLOCK_FILE": str(self._file)}


class End(NamedTuple):
    """What a run leaves of its model."""

    checkpoint: bytes
    models: tuple[Model, ...]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("NO C COMPILER, so wrong clocks are NOT tested: sudo apt install gcc libc6-dev")
    library = tmp_path_factory.mktemp("library") / "wrong_clock.so"
    source = Path(__file__).with_name("wrong_clock.c")
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The embedded broker, whose clock is the coordinator's."""
    recorded = tmp_path_factory.mktemp("recorded") / "capabilities.json"
    recorded.write_bytes(capability.dump(dict.fromkeys(DEVICES, CAPABILITY)))
    return Settings(
        devices=DEVICES,
        capabilities=recorded,
        round={"grace_s": 60.0},
        objectives={"devices": len(DEVICES)},
        local_training={"checkpoint_s": 1e-6},
    )


@pytest.fixture(scope="module")
def undisturbed(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> End:
    with fleet(tmp_path_factory.mktemp("undisturbed"), settings) as one:
        one.run()
        return end_of(one)


def end_of(one: Fleet) -> End:
    return End(one.checkpoint(), tuple(one.agent_model(name) for name in DEVICES))


def boots(one: Fleet, name: str) -> int | None:
    with opened(AgentStore(one.state_dir(name) / "agent.db", read_only=True)) as store:
        count: int | None = store.value("boot", int)
        return count


def test_clocks_that_start_in_1970_and_jump_by_decades_do_not_change_the_model(
    settings: Settings, undisturbed: End, library: Path, tmp_path: Path
) -> None:
    gateway, first, second = (
        Clock(tmp_path / name, library, year) for name, year in (("gateway", 1970), ("pi-1", 1970), ("pi-2", 2031))
    )
    with fleet(tmp_path / "fleet", settings) as one:
        coordinator = one.start_coordinator(gateway.variables)
        agents = {
            name: one.start_agent(name, clock.variables) for name, clock in zip(DEVICES, (first, second), strict=True)
        }
        wait_event(coordinator, events.Opened)
        first.set(2026)
        second.set(1970)
        gateway.set(2099)
        wait_event(coordinator, events.Opened, lambda opened: opened.round == 2)
        gateway.set(2005)
        second.set(2099)
        assert_ends_well(coordinator, agents)
        assert_logged(agents["pi-1"].stderr, 1970, 2026)
        assert_logged(agents["pi-2"].stderr, 2031, 1970, 2099)
        told_in = {change.date[:4] for change in of_kind(told(coordinator), events.Objective)}
        assert told_in and told_in <= {"1970", "2099", "2005"}
        assert end_of(one) == undisturbed


def test_devices_and_a_coordinator_that_come_back_years_before_they_went_go_on(
    settings: Settings, undisturbed: End, library: Path, tmp_path: Path
) -> None:
    """Who is newer is told by the count of boots and the numbers of messages, which are kept, and not by the time."""
    gateway, board = Clock(tmp_path / "gateway", library, 2099), Clock(tmp_path / "board", library, 2026)
    with fleet(tmp_path / "fleet", settings) as one:
        coordinator = one.start_coordinator(gateway.variables)
        agents = {name: one.start_agent(name, board.variables) for name in DEVICES}
        agents["pi-2"].says("catching_up -> training")
        agents["pi-2"].kill()
        coordinator.kill()
        board.set(1970)
        gateway.set(2005)
        coordinator = one.start_coordinator(gateway.variables)
        agents["pi-2"] = one.start_agent("pi-2", board.variables)
        assert_ends_well(coordinator, agents)
        assert_logged(agents["pi-2"].stderr, 1970)
        assert (boots(one, "pi-1"), boots(one, "pi-2")) == (1, 2)
        assert end_of(one) == undisturbed


def assert_logged(text: str, *years: int) -> None:
    """The log has lines of these years: the process had that clock."""
    for year in years:
        assert f"\n{year}-01-" in f"\n{text}", text
