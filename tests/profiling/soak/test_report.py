from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.pack import module_layout
from profiling.soak.faults import Fault, Faults
from profiling.soak.host import Used
from profiling.soak.ledger import Ledger
from profiling.soak.report import DRIFT_LIMIT_PERCENT, Outcome, lines, make_outcome
from profiling.soak.settings import CLASSES, SLOTS, Settings, write_pack

ROUNDS = 100


def outcome(folder: Path, used: list[Used], violation: str | None = None) -> Outcome:
    settings = Settings(devices=4, rounds=ROUNDS)
    ledger = Ledger(settings, module_layout(write_pack(folder), SLOTS, len(CLASSES)), folder / "none.db")
    if violation is not None:
        ledger.violation(violation)
    faults = Faults(0, 1.0)
    faults.note(Fault.CUT)
    walls_s = [0.5 * one.round for one in used]
    return make_outcome(settings, ledger, faults, used, walls_s, ends=(60.0, 3600.0, 3, 0))


def used(growth_bytes: int, rounds: int = ROUNDS) -> list[Used]:
    return [Used(number, 0.1, 40_000_000 + growth_bytes * number) for number in range(1, rounds + 1)]


def test_memory_that_stays_is_as_it_should_be(tmp_path: Path) -> None:
    found = outcome(tmp_path, used(1000))
    assert found.held and found.memory_bytes is not None and 0 < found.memory_bytes.percent < 1
    assert found.wall_s is not None and (found.wall_s.early, found.wall_s.late) == (0.5, 0.5)
    text = "\n".join(lines(found))
    assert "40.02 MB in the second tenth of the rounds, 40.10 MB in the last (+0.2 %)" in text
    assert "      1  connections cut" in text and text.endswith("every law held")


def test_memory_that_grows_with_the_rounds_is_a_violation(tmp_path: Path) -> None:
    found = outcome(tmp_path, used(40_000))
    assert not found.held and found.memory_bytes is not None and found.memory_bytes.percent > DRIFT_LIMIT_PERCENT
    assert "VIOLATION: the coordinator's memory grew by 7.9 % over all rounds" in lines(found)


def test_memory_that_grows_within_the_last_life_alone_is_one_too(tmp_path: Path) -> None:
    grown = used(0)
    grown[60:] = [Used(one.round, 0.1, 38_000_000 + 70_000 * (one.round - 60)) for one in grown[60:]]
    (violation,) = outcome(tmp_path, grown).violations
    assert violation.startswith("the coordinator's memory grew by") and violation.endswith("in its last life")


@pytest.mark.parametrize("rounds", [0, 9])
def test_of_a_soak_that_ended_early_there_are_no_tenths(tmp_path: Path, rounds: int) -> None:
    found = outcome(tmp_path, used(0, rounds), violation="a law was broken")
    assert (found.memory_bytes, found.violations) == (None, ["a law was broken"])
    assert lines(found)[-1] == "VIOLATION: a law was broken"
