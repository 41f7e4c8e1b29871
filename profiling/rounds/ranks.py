"""Where ranks live in a run's last model, as its coordinator or an agent holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coordinator import config as configs
from coordinator.store import Store
from edge_agent.fetching import Fetcher
from edge_agent.predict import DATABASE as AGENT_DATABASE
from edge_agent.store import Store as AgentStore
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import load_manifest, module_layout
from profiling.rounds.load import DATABASE


@dataclass(frozen=True)
class RankMap:
    """Living ranks of every module; `most` is how many it began with."""

    modules: tuple[str, ...]
    ranks: tuple[int, ...]
    most: int


def find_ranks(path: Path) -> RankMap | None:
    """Of the run or the agent in `path`; None where it holds no model yet, or its pack is elsewhere now.

    Raises:
        StoreError: the database cannot be read, or the model in it is damaged.
    """
    if (path / DATABASE).is_file():
        return _of_run(path / DATABASE)
    if (path / AGENT_DATABASE).is_file():
        return _of_agent(path)
    return None


def _of_run(database: Path) -> RankMap | None:
    store = Store(database, read_only=True)
    try:
        stored, checkpoint = store.get("config"), store.checkpoint()
    finally:
        store.close()
    if stored is None or checkpoint is None:
        return None
    config = configs.decode(stored)
    return _map(config.pack, config.ranks.initial, len(config.classes), checkpoint.state)


def _of_agent(folder: Path) -> RankMap | None:
    store = AgentStore(folder / AGENT_DATABASE, read_only=True)
    try:
        welcome, model = store.value("welcome", m.Welcome), store.model()
    finally:
        store.close()
    if welcome is None or model is None:
        return None
    pack = Fetcher(folder).pack_dir(welcome.pack.sha256)
    return _map(pack, welcome.slots, len(welcome.classes), model.state)


def _map(pack: Path, slots: int, classes: int, state: bytes) -> RankMap | None:
    try:
        manifest = load_manifest(pack)
    except PackError:  # the report goes without the map
        return None
    layout = module_layout(manifest, slots, classes)
    mask = states.from_bytes(state, layout).mask
    counts = np.asarray(mask).sum(axis=1)
    return RankMap(tuple(module.name for module in layout.modules), tuple(int(count) for count in counts), slots)
