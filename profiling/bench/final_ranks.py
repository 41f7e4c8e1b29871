"""The ranks that live at the end of a run: of a real one, or made up."""

from __future__ import annotations

from pathlib import Path

from coordinator import config as configs
from coordinator.store import Store
from deploy.folders import COORDINATOR_DB
from edge_agent.wire.errors import ConfigError, StoreError
from edge_agent.wire.pack import Manifest, module_layout

Ranks = tuple[int, ...]
"""Living ranks of each module, in the pack's order."""


def full(manifest: Manifest, rank: int) -> Ranks:
    """Every rank lives."""
    return (rank,) * len(manifest.modules)


def share_of(manifest: Manifest, rank: int, share: float) -> Ranks:
    """The share of all ranks that lies uppermost: the lowest modules lose theirs first, as where depth is given up.

    Raises:
        ConfigError: a share that is none.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"the final share of the ranks must lie above 0 and up to 1, got {share}")
    kept = max(1, round(share * rank * len(manifest.modules)))
    ranks = []
    for _ in manifest.modules:
        ranks.append(min(rank, kept))
        kept -= ranks[-1]
    return tuple(reversed(ranks))


def of_run(run_dir: Path, manifest: Manifest, rank: int) -> Ranks:
    """The ranks that live in the checkpoint of a coordinator's run.

    Raises:
        StoreError: the run cannot be read, or has closed no round yet.
        ConfigError: it is a run of another model, or has more ranks a module than `rank`.
    """
    store = Store(run_dir / COORDINATOR_DB, read_only=True)
    try:
        stored, checkpoint = store.get("config"), store.checkpoint()
    finally:
        store.close()
    if stored is None or checkpoint is None:
        raise StoreError(f"{run_dir} has closed no round yet: wait for one, or give a share of the ranks instead")
    from edge_agent.wire import state as states  # noqa: PLC0415 (numpy: this process maps as little as it can)

    config = configs.decode(stored)
    if config.ranks.initial > rank:
        raise ConfigError(f"the run in {run_dir} has {config.ranks.initial} ranks a module, expected at most {rank}")
    layout = module_layout(manifest, config.ranks.initial, len(config.classes))
    state = states.from_bytes(checkpoint.state, layout)
    return tuple(int(count) for count in state.mask.sum(axis=1))
