"""The fleet's metrics: named and typed by Prometheus's conventions, documented, and null where nothing is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.web.metrics import families
from coordinator.web.state import Level, RequestRow, RoundRow, Run, Snapshot
from tests.coordinator.web.test_state import row

ROOT = Path(__file__).resolve().parents[3]
UNITS = ("_bytes", "_seconds", "_celsius", "_ratio", "_total", "_info")
COUNTED = re.compile(
    r"_(devices|online|late|examples|ranks|version|running|paused|planned|open|alive|met|pending|loss)$"
)
FULL = Snapshot(
    "depot",
    Run("running", 4, 1, 2, 1_800_000_000.0, 600.0, 2, 1),
    (Level("devices", 2.0, False, 1.0, "2026-11-26"),),
    None,
    {"pi-1": row(examples=40, budget_bytes=1000), "pi-2": row(False, late=True)},
    {"1": RoundRow(1, 2, 0, 0.75, None, 50, 1000, 300, 12.5, None)},
    {"a": RequestRow("a", "pi-3", "ff", 7)},
)


def samples(snapshot: Snapshot) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {one.name: [(dict(labels), value) for labels, value in one.samples] for one in families(snapshot)}


def test_a_fleet_in_a_round() -> None:
    found = samples(FULL)
    assert found["rankfleet_devices"] == [({}, 2)] and found["rankfleet_devices_online"] == [({}, 1)]
    assert found["rankfleet_device_online"] == [({"device": "pi-1"}, 1), ({"device": "pi-2"}, 0)]
    assert found["rankfleet_device_budget_bytes"] == [({"device": "pi-1"}, 1000)], "of pi-2 it is not known"
    assert found["rankfleet_round_late_devices"] == [({}, 1)]
    assert found["rankfleet_accuracy_ratio"] == [({}, 0.75)] and found["rankfleet_loss"] == []
    assert found["rankfleet_objective_met"] == [({"objective": "devices"}, 0)]
    assert found["rankfleet_enrolment_requests_pending"] == [({}, 1)]


def test_a_fleet_whose_rounds_have_not_begun() -> None:
    found = samples(Snapshot("depot", Run("not set")))
    assert found["rankfleet_rounds_planned"] == [] and found["rankfleet_rounds_running"] == [({}, 0)]
    assert "rankfleet_round_opened_timestamp_seconds" not in found


@pytest.mark.parametrize("name", sorted(samples(FULL)))
def test_names_follow_the_conventions_and_are_documented(name: str) -> None:
    assert re.fullmatch(r"rankfleet_[a-z_]+", name)
    assert name.endswith(UNITS) or COUNTED.search(name), f"{name} has no unit"
    kinds = {one.name: one.kind for one in families(FULL)}
    assert (kinds[name] == "counter") == name.endswith("_total")
    rows = [
        line for line in (ROOT / "docs" / "metrics.md").read_text().splitlines() if line.startswith(f"| `{name}` |")
    ]
    assert len(rows) == 1, f"{name} is not in docs/metrics.md"
