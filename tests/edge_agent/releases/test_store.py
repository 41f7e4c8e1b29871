"""A release is whole or is none: what is half done, or in no use any more, is cleared away."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.releases import durable, store
from edge_agent.releases.layout import Board
from edge_agent.wire.errors import ReleaseError
from tests.bundles import FAILS, PYTHON, make_once, small_bundle


@pytest.fixture(autouse=True)
def each_environment_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "make", make_once)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


def test_what_is_staged_is_whole_and_nothing_points_to_it(board: Board, tmp_path: Path) -> None:
    release = store.stage(board, small_bundle(tmp_path, "1"))
    assert store.complete(board) == {"1": release}
    assert store.current(board) is None and store.previous(board) is None
    assert {path.name for path in board.home.iterdir()} == {"releases"}


def test_what_cannot_be_staged_leaves_nothing(board: Board, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="too old"):
        store.stage(board, small_bundle(tmp_path, "1", FAILS))
    with pytest.raises(ReleaseError, match="is for riscv64"):
        store.stage(board, small_bundle(tmp_path, "1", machine="riscv64"))
    with pytest.raises(ReleaseError, match=rf"this board is .* with Python {PYTHON}"):
        store.stage(board, small_bundle(tmp_path, "1", python="3.99"))
    assert {path.name for path in board.home.rglob("*")} == {"releases"}


def test_leftovers_are_cleared_away_and_the_whole_ones_stay(board: Board, tmp_path: Path) -> None:
    release = store.stage(board, small_bundle(tmp_path, "1"))
    store.point(board.current, release)
    (board.releases / "2" / "bin").mkdir(parents=True)
    (board.releases / "3").mkdir()
    (board.releases / "3" / "release.json").write_text("[]")
    (board.home / ".unpacked" / "wheels").mkdir(parents=True)
    (board.home / "current.new").symlink_to("releases/2")
    store.clean(board)
    assert {path.name for path in board.home.iterdir()} == {"releases", "current"}
    assert [path.name for path in board.releases.iterdir()] == ["1"]
    assert store.current(board) == release


def test_all_but_the_current_and_the_previous_one_are_deleted(board: Board, tmp_path: Path) -> None:
    first, second, third = (store.stage(board, small_bundle(tmp_path, number)) for number in "123")
    store.point(board.current, third)
    store.point(board.previous, first)
    store.prune(board)
    assert set(store.complete(board).values()) == {first, third}
    assert not second.folder.exists()
    store.discard(first)
    assert store.previous(board) is None


def test_a_link_to_nothing_is_no_release(board: Board) -> None:
    board.home.mkdir(parents=True)
    durable.link(board.current, Path("releases/9"))
    assert store.current(board) is None
