from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.errors import ConfigError, StoreError
from edge_agent.wire.pack import load_manifest
from profiling.bench import final_ranks
from tests import runs
from tests.models import tiny_pack

MANIFEST = load_manifest(tiny_pack())
MODULES = len(MANIFEST.modules)


def test_a_share_keeps_the_uppermost_ranks() -> None:
    ranks = final_ranks.share_of(MANIFEST, 8, 0.25)
    assert sum(ranks) == MODULES * 8 // 4
    assert list(ranks) == sorted(ranks)
    assert final_ranks.share_of(MANIFEST, 8, 1) == final_ranks.full(MANIFEST, 8)


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="must lie above 0 and up to 1"):
        final_ranks.share_of(MANIFEST, 8, share)


def test_a_runs_ranks_are_those_of_its_checkpoint(tmp_path: Path) -> None:
    state = runs.make_state(version=2)
    runs.make_run(runs.make_config(tmp_path), state)
    assert final_ranks.of_run(tmp_path, MANIFEST, runs.SLOTS) == tuple(state.mask.sum(axis=1))
    with pytest.raises(ConfigError, match="expected at most 1"):
        final_ranks.of_run(tmp_path, MANIFEST, 1)


def test_a_run_without_a_closed_round_is_refused(tmp_path: Path) -> None:
    runs.start_run(runs.make_config(tmp_path))
    with pytest.raises(StoreError, match="closed no round yet"):
        final_ranks.of_run(tmp_path, MANIFEST, 8)
