"""Run folders and state folders as a coordinator and an agent leave them, made through their own classes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from coordinator.config import CoordinatorConfig, RankSettings, RoundSettings, TrainingSettings
from coordinator.events import RoundRecord
from coordinator.fleet_model import FleetModel, to_checkpoint
from coordinator.run import run
from coordinator.store import Store
from deploy.folders import AGENT_DB, COORDINATOR_DB
from edge_agent.fetching import Fetcher
from edge_agent.store import Model
from edge_agent.store import Store as AgentStore
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import MANIFEST, load_manifest, module_layout
from edge_agent.wire.ranks import HEAD
from edge_agent.wire.state import ModelState
from tests.models import tiny_pack

FLEET = "depot"
CLASSES = ("belt", "engine", "pump")
SLOTS = 3
ROUNDS = 4
SPEED = m.Speed(1, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
COST = m.CostTable(1, 1, 1, 1, 1, 1.0, (SPEED, msgspec.structs.replace(SPEED, micro_batch=8)), 2)
CAPABILITY = m.Capability(200_000_000, 512_000_000, 100_000, COST)


def make_config(run_dir: Path, pack_dir: Path | None = None, **settings: object) -> CoordinatorConfig:
    """A run on the tiny pack, whose ranks and texts are few."""
    return CoordinatorConfig(
        fleet=FLEET,
        pack=pack_dir or tiny_pack(),
        classes=CLASSES,
        run_dir=run_dir,
        users_file=run_dir / "users",
        round=RoundSettings(rounds=ROUNDS),
        ranks=RankSettings(initial=SLOTS, target=1.0, warmup_rounds=1, final_rounds=1),
        training=TrainingSettings(max_tokens=16, scale=0.7),
        **settings,  # type: ignore[arg-type]
    )


def make_state(version: int) -> ModelState:
    """A state as training leaves it: random values, and ranks pruned at random."""
    layout = module_layout(load_manifest(tiny_pack()), SLOTS, len(CLASSES))
    generator = np.random.default_rng(version)
    mask = generator.random((len(layout.modules), SLOTS)) < 0.6
    rows = layout.empty_rows()
    for module, slots in layout.living(mask):
        rows[module.name][slots] = generator.standard_normal((len(slots), module.width)) * 0.3
    rows[HEAD][:] = generator.standard_normal(rows[HEAD].shape)
    return ModelState(layout, version, mask, rows)


def start_run(config: CoordinatorConfig) -> None:
    """A coordinator that got as far as its users file, which is missing: the run's terms are written by then."""
    with pytest.raises(ConfigError, match="users_file"):
        run(config, lambda event: None)


def make_run(config: CoordinatorConfig, state: ModelState) -> Path:
    """A run folder after `state.version` rounds, of which `state` is the last checkpoint."""
    start_run(config)
    store = Store(config.run_dir / COORDINATOR_DB)
    checkpoint = to_checkpoint(FleetModel(state, state.layout.empty_rows(), np.zeros(state.mask.shape)))
    for number in range(1, state.version + 1):
        record = msgspec.json.encode(make_record(number))
        store.close_round(number, checkpoint._replace(version=number), b"delta", record)
    store.close()
    return config.run_dir


def make_record(number: int, contributors: Sequence[str] = ("pi-1", "pi-2")) -> RoundRecord:
    """The record of a round; its model grows more accurate and smaller."""
    return RoundRecord(
        round=number,
        version=number,
        contributors=tuple(contributors),
        examples=40,
        loss=2.0 / number,
        accuracy=0.2 * number,
        ranks_alive=60 - number,
        modules_alive=18,
        budget_ranks=60 - number,
        needed_ranks=50 - number,
        agreement=0.5,
        updates_bytes=2_500_000,
        delta_bytes=42_000,
        wall_s=3.25,
    )


def make_agent(state_dir: Path, state: ModelState | None, *, with_pack: bool = True) -> Path:
    """The state folder of an agent that joined the fleet of `make_config` and holds `state`."""
    sha256 = hashlib.sha256((tiny_pack() / MANIFEST).read_bytes()).digest()
    config = make_config(state_dir)
    pack = m.ObjectRef("manifest", sha256, (tiny_pack() / MANIFEST).stat().st_size)
    welcome = m.Welcome(FLEET, bytes(16), config.seed, SLOTS, CLASSES, pack, config.message_training())
    store = AgentStore(state_dir / AGENT_DB)
    store.next_boot()
    store.keep(welcome=welcome)
    if state is not None:
        store.keep_model(Model(state.version, states.to_bytes(state), states.to_bytes(state)))
    store.close()
    if with_pack:
        shutil.copytree(tiny_pack(), Fetcher(state_dir).pack_dir(sha256))
    return state_dir
