"""Lowering a device's budget changes its plan and its measured peak; too low a budget names the smallest that does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire.errors import ConfigError
from profiling.budget import measure_budgets
from tests.runs import CLASSES, FLEET, make_agent

MIB = 2**20
PLENTY_MIB = 512
SUPERVISOR_BYTES = 20 * MIB


def _agent(folder: Path) -> Path:
    """The configuration of an agent that joined a fleet and measured itself."""
    make_agent(folder / "state", None)
    store = Store(folder / "state" / "agent.db")
    table = m.CostTable(0, 0, 0, SUPERVISOR_BYTES, 0, 0.0, (m.Speed(1, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),), 1)
    store.keep(capability=m.Capability(PLENTY_MIB * MIB, 2**32, 10**6, table))
    store.close()
    rows = [{"text": f"pump leaks {n}", "label": CLASSES[n % len(CLASSES)]} for n in range(40)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = folder / "agent.toml"
    path.write_text(
        f'device = "pi-1"\nfleet = "{FLEET}"\ndata = "train.jsonl"\nstate_dir = "state"\n[broker]\n', encoding="utf-8"
    )
    return path


def test_a_lower_budget_gives_a_smaller_plan_or_names_the_smallest_that_does(tmp_path: Path) -> None:
    agent = _agent(tmp_path)
    plenty, nothing = measure_budgets(agent, [PLENTY_MIB * MIB, SUPERVISOR_BYTES + MIB])
    assert plenty.measured_bytes is not None and plenty.predicted_bytes is not None
    assert plenty.measured_bytes <= plenty.budget_bytes
    assert abs(plenty.predicted_bytes / plenty.measured_bytes - 1) < 0.1
    assert nothing.measured_bytes is None and nothing.reason is not None
    assert nothing.smallest_budget_bytes is not None
    assert nothing.budget_bytes < nothing.smallest_budget_bytes < plenty.budget_bytes


def test_an_agent_that_never_joined_is_told_so(tmp_path: Path) -> None:
    agent = _agent(tmp_path)
    Store(tmp_path / "state" / "agent.db").forget_fleet()
    with pytest.raises(ConfigError, match="joined no fleet"):
        measure_budgets(agent, [PLENTY_MIB * MIB])
