from __future__ import annotations

import shutil
from pathlib import Path

from profiling.rounds.ranks import find_ranks
from tests.models import tiny_pack
from tests.runs import SLOTS, make_agent, make_config, make_run, make_state


def test_ranks_are_those_of_the_last_model(tmp_path: Path) -> None:
    make_run(make_config(tmp_path / "run"), make_state(3))
    found = find_ranks(tmp_path / "run")
    assert found is not None and found.most == SLOTS and len(found.modules) == len(found.ranks)
    state = make_state(2)
    make_agent(tmp_path / "agent", state)
    own = find_ranks(tmp_path / "agent")
    assert own is not None and own.ranks == tuple(state.mask.sum(axis=1))
    assert find_ranks(tmp_path) is None


def test_a_run_whose_pack_is_elsewhere_now_has_no_map(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(tiny_pack(), pack)
    make_run(make_config(tmp_path / "run", pack), make_state(2))
    shutil.rmtree(pack)
    assert find_ranks(tmp_path / "run") is None
