"""The measurement of the page: a small fleet that never was, in a real browser."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from coordinator.enrolment.registry import Registry
from coordinator.journal import FILE, Journal
from coordinator.web.reader import Reader
from deploy.cli.main import main
from profiling.page.fleet import Simulated
from profiling.page.measure import spread
from tests.browsers import require_browser
from tests.models import tiny_pack

NOW_S = 1_800_000_000.0


def test_the_simulated_fleet_is_one_that_the_page_can_read(tmp_path: Path) -> None:
    simulated = Simulated(tmp_path, 20, 3, tiny_pack())
    simulated.write()
    reader = Reader("simulated", tmp_path, lambda: Registry(tmp_path / "enrolment.db"), lambda: "running")
    found = reader.read(NOW_S)
    assert (len(found.devices), found.run.closed, found.run.open_round) == (20, 3, 4)
    assert (found.run.cohort, found.run.answered) == (20, 10)
    assert all(row.budget_bytes and row.peak_bytes for row in found.devices.values())
    journal = Journal(tmp_path / FILE)
    simulated.stir(journal, random.Random(0), share=1.0)
    stirred = reader.read(NOW_S)
    assert sum(row.step is not None for row in stirred.devices.values()) == 10
    reader.close()


def test_the_spread_of_times() -> None:
    found = spread((5.0, 1.0, 2.0, 3.0, 4.0))
    assert (found.median_ms, found.first_quartile_ms, found.third_quartile_ms) == (3.0, 2.0, 4.0)
    assert (found.least_ms, found.most_ms) == (1.0, 5.0)


@pytest.mark.slow
def test_the_command_prints_what_a_browser_took(capsys: pytest.CaptureFixture[str]) -> None:
    require_browser()
    assert main(["profile", "page", "--devices", "30", "--rounds", "2", "--repeats", "3"]) == 0
    said = capsys.readouterr().out
    assert "30 devices, 2 rounds; Chromium" in said and "first paint      median" in said
