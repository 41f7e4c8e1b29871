"""Releases on a board: staged beside each other, one of them current, switched by renaming a link.

A release's folder is made where it will stay, for a virtual environment knows its own path. `release.json` is written
into it last, after all else is on the disk: a folder without one is half a release and cleared away.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from edge_agent.wire.errors import ReleaseError

from . import bundle, durable
from .environment import make, self_test
from .layout import RELEASE_JSON, Board

_UNPACKED = ".unpacked"


@dataclass(frozen=True)
class Release:
    """One release on the disk. `digest` is that of its bundle's manifest."""

    version: str
    digest: str
    folder: Path


def complete(board: Board) -> dict[str, Release]:
    """Every whole release, by version."""
    found = (_read(folder) for folder in sorted(board.releases.glob("*")))
    return {release.version: release for release in found if release is not None}


def current(board: Board) -> Release | None:
    """The release that runs."""
    return _linked(board.current)


def previous(board: Board) -> Release | None:
    """The last good one before the current release."""
    return _linked(board.previous)


def stage(board: Board, source: Path) -> Release:
    """Makes a release of a bundle (the tar `source`), whole and tested, that nothing points to yet.

    One that is there already, whole and working, is kept.

    Raises:
        ReleaseError: the bundle is none, is for another board, or does not work here; or another bundle with the same
            version is in use.
        OSError: the disk cannot be written.
    """
    unpacked = board.home / _UNPACKED
    with durable.for_everybody():
        clean(board)
        unpacked.mkdir()
        try:
            manifest = bundle.unpack(source, unpacked)
            bundle.check_board(manifest)
            return _known(board, manifest) or _make(board, unpacked, manifest)
        finally:
            durable.remove_tree(unpacked)


def clean(board: Board) -> None:
    """Makes the folders, and clears away what an interrupted run left half done. Raises OSError."""
    board.releases.mkdir(parents=True, exist_ok=True)
    durable.remove_tree(board.home / _UNPACKED)
    for leftover in board.home.glob(f"*{durable.TEMPORARY}"):
        durable.remove(leftover)
    for folder in board.releases.glob("*"):
        if _read(folder) is None:
            durable.remove_tree(folder)


def prune(board: Board) -> None:
    """Deletes every release but the current and the previous one. Raises OSError."""
    kept = {release.folder for release in (current(board), previous(board)) if release is not None}
    for release in complete(board).values():
        if release.folder not in kept:
            discard(release)


def discard(release: Release) -> None:
    """Deletes a release. Raises OSError."""
    durable.remove(release.folder / RELEASE_JSON)
    durable.remove_tree(release.folder)


def point(link: Path, release: Release) -> None:
    """Has the link `current` or `previous` lead to a release, from one moment to the next. Raises OSError."""
    durable.link(link, Path("releases") / release.folder.name)


def _known(board: Board, manifest: bundle.Manifest) -> Release | None:
    """The whole, working release of this very bundle; what else has its version and is not in use is deleted."""
    known = complete(board).get(manifest.version)
    if known is None:
        return None
    if known.digest == manifest.digest:
        try:
            self_test(known.folder)
        except ReleaseError:
            discard(known)
            return None
        return known
    if known in (current(board), previous(board)):
        raise ReleaseError(
            f"release {known.version} is installed from a bundle with other content: give the new one another version"
        )
    discard(known)
    return None


def _make(board: Board, unpacked: Path, manifest: bundle.Manifest) -> Release:
    release = Release(manifest.version, manifest.digest, board.releases / manifest.version)
    try:
        make(release.folder, unpacked, manifest.version)
        self_test(release.folder)
    except ReleaseError:
        durable.remove_tree(release.folder)
        raise
    # Everything must be on the disk before the file that says so.
    os.sync()
    told = {"version": release.version, "digest": release.digest, "python": manifest.python}
    durable.write(release.folder / RELEASE_JSON, json.dumps(told).encode() + b"\n")
    return release


def _linked(link: Path) -> Release | None:
    return _read(link.parent / link.readlink()) if link.is_symlink() else None


def _read(folder: Path) -> Release | None:
    try:
        told = json.loads((folder / RELEASE_JSON).read_bytes())
        return Release(str(told["version"]), str(told["digest"]), folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
