"""Upgrades and returns: a release stays when it works, else the one before runs again; at any moment one is whole."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.releases import store
from edge_agent.releases.change import Changer, Outcome
from edge_agent.releases.layout import Board
from edge_agent.releases.limits import Limits
from edge_agent.releases.service_manager import NoManager
from edge_agent.releases.store import Release
from edge_agent.wire.errors import ReleaseError
from tests.bundles import FAILS, make_once, small_bundle
from tests.edge_agent.releases.boards import Processes, version_of

LIMITS = Limits(idle_s=0.2, steady_s=0.3, poll_s=0.02)


@pytest.fixture(autouse=True)
def each_environment_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "make", make_once)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


@pytest.fixture
def manager(board: Board, tmp_path: Path) -> Iterator[Processes]:
    """Release 1 is installed, and its agent runs."""
    Changer(board, NoManager(), LIMITS).install(small_bundle(tmp_path / "bundles", "1"))
    processes = Processes(board)
    yield processes
    processes.stop()


def version(board: Board) -> str:
    """What the command of the current release says."""
    return version_of(board.current)


def bundle(tmp_path: Path, number: str, **options: str) -> Path:
    return small_bundle(tmp_path / "bundles", number, **options)


def test_the_first_release_becomes_current_and_starts_nothing(board: Board, tmp_path: Path) -> None:
    outcome = Changer(board, NoManager()).install(bundle(tmp_path, "1"))
    assert (outcome.kind, outcome.release.version, version(board)) == ("installed", "1", "1")
    assert store.previous(board) is None
    again = Changer(board, NoManager()).install(bundle(tmp_path, "1"))
    assert again == Outcome("installed", outcome.release, "it was installed already")


def test_an_upgrade_stops_switches_and_starts_and_the_last_two_are_kept(
    board: Board, manager: Processes, tmp_path: Path
) -> None:
    changer = Changer(board, manager, LIMITS)
    for number in ("2", "3"):
        manager.happened.clear()
        outcome = changer.install(bundle(tmp_path, number))
        assert (outcome.kind, version(board)) == ("installed", number)
        assert manager.happened == ["stop", f"start {number}"] and manager.process() is not None
    assert sorted(store.complete(board)) == ["2", "3"]
    before = store.previous(board)
    assert before is not None and before.version == "2"
    assert not board.journal.exists()


def test_going_back_and_forth(board: Board, manager: Processes, tmp_path: Path) -> None:
    changer = Changer(board, manager, LIMITS)
    with pytest.raises(ReleaseError, match="no earlier release"):
        changer.go_back()
    changer.install(bundle(tmp_path, "2"))
    assert changer.go_back().release.version == version(board) == "1"
    assert changer.go_back().release.version == version(board) == "2"
    assert manager.process() is not None


@pytest.mark.parametrize(
    ("lives_s", "words"), [(-1, "release 2: the agent of 2 does not start"), (0.1, "did not stay up for 0 s")]
)
def test_a_release_whose_agent_does_not_run_is_left_and_deleted(
    lives_s: float, words: str, board: Board, manager: Processes, tmp_path: Path
) -> None:
    manager.lives_s["2"] = lives_s
    outcome = Changer(board, manager, LIMITS).install(bundle(tmp_path, "2"))
    assert outcome.kind == "returned" and words in outcome.reason
    assert version(board) == "1" and manager.process() is not None
    assert sorted(store.complete(board)) == ["1"] and not board.journal.exists()


def test_a_health_check_can_send_a_release_back(board: Board, manager: Processes, tmp_path: Path) -> None:
    def unhealthy(release: Release) -> None:
        assert store.current(board) == release
        raise ReleaseError("the gateway does not hear it")

    outcome = Changer(board, manager, LIMITS, unhealthy).install(bundle(tmp_path, "2"))
    assert (outcome.kind, outcome.reason) == ("returned", "release 2: the gateway does not hear it")
    assert version(board) == "1"


def test_the_one_before_the_last_survives_a_failed_upgrade(board: Board, manager: Processes, tmp_path: Path) -> None:
    changer = Changer(board, manager, LIMITS)
    changer.install(bundle(tmp_path, "2"))
    manager.lives_s["3"] = -1
    assert changer.install(bundle(tmp_path, "3")).kind == "returned"
    assert changer.go_back().release.version == version(board) == "1"


def test_where_neither_release_starts_both_reasons_are_told(board: Board, manager: Processes, tmp_path: Path) -> None:
    manager.lives_s.update({"1": -1, "2": -1})
    with pytest.raises(ReleaseError, match=r"2: the agent of 2 does not start; and release 1 does not start any more"):
        Changer(board, manager, LIMITS).install(bundle(tmp_path, "2"))
    assert version(board) == "1"


def test_a_release_that_fails_its_self_test_never_becomes_current(
    board: Board, manager: Processes, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match="run its self-test: the processor is too old"):
        Changer(board, manager, LIMITS).install(bundle(tmp_path, "2", self_test=FAILS))
    assert manager.happened == [] and version(board) == "1"
    Changer(board, manager, LIMITS).recover()
    assert [path.name for path in board.releases.iterdir()] == ["1"]


def test_an_agent_that_did_not_run_is_not_started(board: Board, manager: Processes, tmp_path: Path) -> None:
    manager.stop()
    manager.happened.clear()
    assert Changer(board, manager, LIMITS).install(bundle(tmp_path, "2")).kind == "installed"
    assert manager.happened == ["stop"] and manager.process() is None


def test_an_upgrade_waits_for_the_end_of_a_round(board: Board, manager: Processes, tmp_path: Path) -> None:
    board.state.mkdir(parents=True)
    with (board.state / "busy").open("wb") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        with pytest.raises(ReleaseError, match="in a round still after 0 s: try again later"):
            Changer(board, manager, LIMITS).install(bundle(tmp_path, "2"))
        assert manager.happened == [] and version(board) == "1"
        threading.Timer(0.5, lambda: fcntl.flock(busy, fcntl.LOCK_UN)).start()
        outcome = Changer(board, manager, Limits(30, 0.3, 0.02)).install(bundle(tmp_path, "2"))
    assert outcome.kind == "installed" and version(board) == "2"


def test_a_bundle_with_the_version_of_a_release_in_use_and_other_content_is_refused(
    board: Board, manager: Processes, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match="release 1 is installed from a bundle with other content"):
        Changer(board, manager, LIMITS).install(bundle(tmp_path, "1", self_test="print('other')"))
    assert version(board) == "1"


def test_a_damaged_release_is_made_again_from_its_bundle(board: Board, tmp_path: Path) -> None:
    source = bundle(tmp_path, "1")
    changer = Changer(board, NoManager(), LIMITS)
    release = changer.install(source).release
    for module in release.folder.rglob("self_test.py"):
        module.unlink()
    assert changer.install(source).kind == "installed"
    assert version(board) == "1"


def test_a_journal_that_is_no_journal_is_dropped(board: Board, manager: Processes) -> None:
    board.journal.write_bytes(b"{")
    assert Changer(board, manager, LIMITS).recover() is None
    assert not board.journal.exists() and version(board) == "1"


@pytest.mark.parametrize("switched", [False, True])
def test_a_change_that_nobody_saw_the_end_of_is_brought_to_one(
    switched: bool, board: Board, manager: Processes, tmp_path: Path
) -> None:
    release = store.stage(board, bundle(tmp_path, "2"))
    board.journal.write_text('{"origin": "1", "goal": "2", "ran": true}')
    if switched:
        store.point(board.current, release)
    manager.stop()
    outcome = Changer(board, manager, LIMITS).recover()
    assert outcome is not None
    assert (outcome.kind, version(board)) == (("installed", "2") if switched else ("returned", "1"))
    assert manager.process() is not None and not board.journal.exists()
