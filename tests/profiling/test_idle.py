from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from edge_agent.wire.errors import PackError, RankfleetError
from edge_agent.wire.pack import MANIFEST
from profiling import idle
from profiling.idle import Idle
from tests.brokers import require_mosquitto
from tests.models import tiny_pack

LIMIT_BYTES = 30 * 10**6


def test_medians_are_told_with_the_least_and_the_most() -> None:
    rows = [Idle("joined", (10**6, 3 * 10**6, 2 * 10**6), (10**6,), ())]
    assert re.split(r"  +", idle.lines(rows)[1]) == ["joined", "2.0 (1.0 to 3.0)", "not told", "1.0 (1.0 to 1.0)"]


def test_without_a_broker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle.shutil, "which", lambda *_, **__: None)
    with pytest.raises(RankfleetError, match="apt install mosquitto"):
        idle.measure_idle(tiny_pack(), tmp_path, 1)


def test_a_fleet_that_gets_nowhere_is_told_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_mosquitto()
    monkeypatch.setattr(idle, "PATIENCE_S", 8.0)
    pack, folder = tmp_path / "pack", tmp_path / "fleet"
    pack.mkdir()
    folder.mkdir()
    shutil.copy(tiny_pack() / MANIFEST, pack)  # and nothing that it names
    with pytest.raises(RankfleetError, match="the agent did not get as far"):
        idle.measure_idle(pack, folder, 1)


def test_what_is_no_pack_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no model pack"):
        idle.measure_idle(tmp_path, tmp_path, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_supervisor_takes_30_mb_at_most_before_and_after_a_round(tmp_path: Path) -> None:
    require_mosquitto()
    rows = idle.measure_idle(tiny_pack(), tmp_path, samples=3)
    assert [row.state for row in rows] == ["joined, before a round", "after a round"]
    for row in rows:
        assert 0 < max(row.anonymous_bytes) < max(row.rss_bytes) <= LIMIT_BYTES
