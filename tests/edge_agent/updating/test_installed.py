"""Which agent an updater finds on a board: a release, that of the Debian package, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.releases.layout import Board
from edge_agent.updating.installed import board_releases
from edge_agent.wire.errors import ReleaseError, StoreError


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A tree with the package in it, as far as an updater looks."""
    board = Board(tmp_path)
    info = board.package / "rankfleet-1.2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rankfleet\nVersion: 1.2.0\n")
    return board


def test_the_packages_agent_has_a_version_that_only_apt_changes(board: Board) -> None:
    with board_releases(board.root, 1.0, 1.0) as (releases, folder):
        assert releases.version() == "1.2.0" and "managed by apt" in releases.fixed
        assert folder == board.var / "spool" and not board.home.exists()
        assert releases.recover() is None
        for change in (lambda: releases.install(Path("any.tar")), releases.go_back):
            with pytest.raises(ReleaseError, match="managed by apt"):
                change()
        with releases.agent_stopped():
            pass
        with pytest.raises(StoreError, match="another updater"), board_releases(board.root, 1.0, 1.0):
            pass


def test_a_release_that_is_there_as_well_is_what_runs(board: Board) -> None:
    release = board.releases / "1.1"
    release.mkdir(parents=True)
    (release / "release.json").write_text('{"version": "1.1", "digest": "0"}')
    board.current.symlink_to("releases/1.1")
    with board_releases(board.root, 1.0, 1.0) as (releases, _):
        assert releases.version() == "1.1" and not releases.fixed


def test_without_either_the_installer_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run the installer"), board_releases(tmp_path, 1.0, 1.0):
        pass
