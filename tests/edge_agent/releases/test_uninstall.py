"""Nothing is left of rankfleet but what was asked to be kept, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_agent.releases import provision, store
from edge_agent.releases.layout import Board
from edge_agent.releases.service_manager import NoManager
from edge_agent.releases.uninstall import uninstall
from edge_agent.wire.errors import ReleaseError
from edge_agent.wire.folder_lock import only_one
from tests.bundles import make_once, small_bundle
from tests.edge_agent.releases.boards import Processes, tree

SYSTEM = ("etc/systemd/system/multi-user.target.wants", "usr/local/bin", "var/lib", "opt", "srv/texts")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A system with rankfleet, units enabled, and somebody else's files."""
    monkeypatch.setattr(store, "make", make_once)
    made = Board(tmp_path / "board")
    for folder in SYSTEM:
        (made.root / folder).mkdir(parents=True)
    (made.units / "other.service").touch()
    (made.root / "srv" / "texts" / "a.jsonl").touch()
    made.home.mkdir()
    return made


def install(board: Board, tmp_path: Path) -> None:
    provision.make_folders(board)
    provision.write_authority(board, b"certificate")
    provision.write_config(
        board, provision.Membership("pi-1", "depot", "https://gateway:8443", data=board.root / "srv" / "texts")
    )
    store.point(board.current, store.stage(board, small_bundle(tmp_path, "1")))
    provision.link_command(board)
    (board.data / "texts.jsonl").write_text("{}")
    (board.state / "agent.db").write_text("rows")
    for unit in ("rankfleet-agent.service", "rankfleet-update.service", "rankfleet-update.timer"):
        (board.units / unit).touch()
    (board.units / "rankfleet-agent.service.d").mkdir()
    (board.units / "rankfleet-agent.service.d" / "override.conf").touch()
    wanted = board.units / "multi-user.target.wants" / "rankfleet-agent.service"
    wanted.symlink_to(board.units / "rankfleet-agent.service")


def test_nothing_is_left(board: Board, tmp_path: Path) -> None:
    before = tree(board.root)
    install(board, tmp_path)
    manager = Processes(board)
    assert uninstall(board, manager, keep_data=False) == []
    assert tree(board.root) == before - {"opt/rankfleet"}
    assert manager.process() is None and manager.happened == ["stop", "reread"]


def test_texts_and_state_are_kept_where_that_is_asked(board: Board, tmp_path: Path) -> None:
    before = tree(board.root)
    install(board, tmp_path)
    assert uninstall(board, NoManager(), keep_data=True) == [board.data, board.state]
    kept = {"data", "state", "data/texts.jsonl", "state/agent.db"}
    var = "var/lib/rankfleet"
    assert tree(board.root) - before == {var, *(f"{var}/{name}" for name in kept)}


def test_it_can_be_done_again_after_any_part_of_it(board: Board, tmp_path: Path) -> None:
    before = tree(board.root)
    for gone in (board.units / "rankfleet-agent.service", board.settings, board.identity, board.var):
        board.home.mkdir(exist_ok=True)
        install(board, tmp_path)
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        uninstall(board, NoManager(), keep_data=False)
        assert tree(board.root) == before - {"opt/rankfleet"}


def test_an_agent_that_runs_is_not_deleted_beneath_itself(board: Board, tmp_path: Path) -> None:
    install(board, tmp_path)
    with only_one(board.state, "agent"), pytest.raises(ReleaseError, match="an agent runs with"):
        uninstall(board, NoManager(), keep_data=False)
    assert (board.state / "agent.db").exists() and board.current.exists()
