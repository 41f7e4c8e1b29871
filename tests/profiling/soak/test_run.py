"""Short soaks of the real coordinator in a process of its own, and of coordinators with a fault planted in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from coordinator.run import DATABASE
from coordinator.store import Store
from profiling.soak.faults import Fault
from profiling.soak.host import MakeStore
from profiling.soak.report import Outcome
from profiling.soak.run import run
from profiling.soak.settings import Settings
from tests.profiling.soak import planted

SHORT = Settings(devices=12, rounds=15, seed=1, fault_rate=5.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("soak")


@pytest.fixture(scope="module")
def closed() -> list[int]:
    return []


@pytest.fixture(scope="module")
def short(folder: Path, closed: list[int]) -> Outcome:
    return run(SHORT, folder, lambda number, _: closed.append(number))


def found(tmp_path: Path, store: MakeStore) -> str:
    """What a soak says of a coordinator with this database."""
    outcome = run(SHORT, tmp_path, lambda number, elapsed_s: None, store)
    assert not outcome.held
    return "\n".join(outcome.violations)


def records(folder: Path) -> tuple[list[tuple[int, bytes]], bytes]:
    """The records of a run's rounds, and what its last model is known by."""
    store = Store(folder / "run" / DATABASE, read_only=True)
    try:
        checkpoint = store.checkpoint()
        assert checkpoint is not None
        return store.rounds(), hashlib.sha256(checkpoint.state + checkpoint.residual).digest()
    finally:
        store.close()


def test_every_law_holds_while_everything_goes_wrong(short: Outcome, closed: list[int]) -> None:
    assert short.violations == []
    assert short.closed == SHORT.rounds and set(closed) <= set(range(1, SHORT.rounds + 1))
    assert short.averages_compared > SHORT.rounds // 2
    assert short.digests_compared >= short.updates > SHORT.rounds * SHORT.devices // 3
    assert short.coordinator_lives > 2
    stops = short.faults[Fault.STOPPED.value] + short.faults[Fault.CRASHED.value]
    assert stops == short.coordinator_lives - 1
    assert sum(count > 0 for count in short.faults.values()) >= len(Fault) - 5


def test_the_same_seed_gives_the_same_soak_to_the_bit(short: Outcome, folder: Path, tmp_path: Path) -> None:
    again = run(SHORT, tmp_path, lambda number, elapsed_s: None)
    assert (again.faults, again.simulated_s) == (short.faults, short.simulated_s)
    assert records(tmp_path) == records(folder)


def test_a_coordinator_that_acknowledges_what_is_not_on_disk_is_found(tmp_path: Path) -> None:
    text = found(tmp_path, planted.WriteBehindStore)
    assert "were acknowledged" in text or "the acknowledged update of" in text


def test_a_coordinator_that_counts_an_update_twice_is_found(tmp_path: Path) -> None:
    assert "its average is" in found(tmp_path, planted.DoubleStore)


def test_a_record_that_names_a_device_too_many_is_found(tmp_path: Path) -> None:
    assert "its record names others than those whose updates are on disk" in found(tmp_path, planted.OvercountingStore)


def test_a_coordinator_that_ends_by_itself_is_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "which nobody asked it to" in found(tmp_path, planted.BrokenStore)
    assert "planted" in capfd.readouterr().err
