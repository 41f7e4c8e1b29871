"""A device's budget decides how it trains, and what it then uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator import events
from deploy.packs.build import build_pack
from edge_agent.wire import messages as m
from tests.models import WORDS, tiny_model
from tests.system.fleet import Fleet, Process, Settings, assert_ends_well, fleet, of_kind, told

MIB = 2**20
AMPLE_BYTES, STARVED_BYTES = 640 * MIB, 40 * MIB
WIDE = {"hidden_size": 128, "intermediate_size": 1024, "max_position_embeddings": 130}


@pytest.fixture(scope="module")
def wide_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose activations show beside the memory of the process itself."""
    folder = tmp_path_factory.mktemp("wide")
    build_pack(tiny_model(folder / "model", vocabulary=WORDS, **WIDE), folder / "pack")
    return folder / "pack"


def test_the_budget_that_a_starved_agent_names_is_enough(tmp_path: Path) -> None:
    with fleet(tmp_path, Settings(rounds=1, devices=("pi-1",), budgets={"pi-1": STARVED_BYTES})) as one:
        coordinator = one.start_coordinator()
        named_bytes = named_budget(one.start_agent("pi-1"))
        report = finish(one, coordinator, {}, "pi-1", named_bytes)["pi-1"]
    assert used_bytes(report) <= named_bytes


@pytest.mark.slow
def test_a_smaller_budget_gives_a_smaller_plan_and_a_smaller_peak(tmp_path: Path, wide_pack: Path) -> None:
    with fleet(tmp_path, two_devices(wide_pack)) as one:
        coordinator, agents = one.start_coordinator(), one.start_agents()
        named_bytes = named_budget(agents["pi-2"])
        reports = finish(one, coordinator, agents, "pi-2", named_bytes)
    ample, tight = reports["pi-1"], reports["pi-2"]
    assert work(tight) < work(ample)
    assert used_bytes(tight) <= named_bytes
    assert used_bytes(tight) < used_bytes(ample) - MIB


def finish(
    one: Fleet, coordinator: Process, agents: dict[str, Process], starved: str, budget_bytes: int
) -> dict[str, m.RoundReport]:
    """Starts the device that had too little with `budget_bytes`; the reports of the run's only round."""
    one.settings.budgets = {**one.settings.budgets, starved: budget_bytes}
    one.write()
    assert_ends_well(coordinator, {**agents, starved: one.start_agent(starved)})
    return {event.device: event.report for event in of_kind(told(coordinator), events.Received)}


def two_devices(pack: Path) -> Settings:
    return Settings(
        rounds=1,
        devices=("pi-1", "pi-2"),
        budgets={"pi-1": AMPLE_BYTES, "pi-2": STARVED_BYTES},
        pack=pack,
        text_words=120,
        training={"max_tokens": 128, "local_steps": 2},
    )


def named_budget(agent: Process) -> int:
    """The smallest budget that would do, as an agent names it that ends for want of memory."""
    assert agent.wait() == 1
    found = re.search(rf"a budget of {STARVED_BYTES} bytes .* the smallest that does is (\d+) bytes", agent.error)
    assert found is not None, agent.error
    assert "memory.budget_bytes" in agent.error
    return int(found[1])


def work(report: m.RoundReport) -> int:
    """Tokens that pass the trained blocks at a time."""
    return report.micro_batch * report.sequence_tokens * report.depth


def used_bytes(report: m.RoundReport) -> int:
    """What counts against the budget."""
    return report.peak_anonymous_bytes + report.mapped_bytes
