"""The releases of this board, as `edge_agent.releases` keeps them, or the agent of its Debian package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

from edge_agent.releases import store
from edge_agent.releases.change import Changer
from edge_agent.releases.layout import BY_APT, Board
from edge_agent.releases.limits import Limits
from edge_agent.releases.service_manager import ServiceManager, service_manager
from edge_agent.updating.releases import Change, Releases
from edge_agent.wire.errors import ReleaseError, StoreError
from edge_agent.wire.folder_lock import only_one

SPOOL = "spool"


@contextmanager
def board_releases(prefix: Path, idle_s: float, steady_s: float) -> Iterator[tuple[Releases, Path]]:
    """The releases below `prefix`, kept from other installers, and a folder of root's own for the updater.

    Raises:
        StoreError: no release is installed there, or another installer or updater is at work.
    """
    board = Board(prefix.resolve())
    if board.packaged:
        with only_one(board.var / SPOOL, "updater"):
            yield _Packaged(board, service_manager(board)), board.var / SPOOL
        return
    if store.current(board) is None:
        raise StoreError(f"no release is installed in {board.home}: run the installer of your gateway first")
    with only_one(board.home, "installer or updater"):
        yield _Installed(Changer(board, service_manager(board), Limits(idle_s, steady_s))), board.home / SPOOL


class _Installed:
    """Fills `Releases`."""

    fixed = ""

    def __init__(self, changer: Changer) -> None:
        self._changer = changer

    def version(self) -> str:
        release = store.current(self._changer.board)
        if release is None:
            raise StoreError(f"there is no release in {self._changer.board.home} any more: run the installer")
        return str(release.version)

    def install(self, bundle: Path) -> Change:
        return self._changer.install(bundle)

    def go_back(self) -> Change:
        return self._changer.go_back()

    def recover(self) -> Change | None:
        return self._changer.recover()

    @contextmanager
    def agent_stopped(self) -> Iterator[None]:
        with _stopped(self._changer.manager):
            yield


class _Packaged:
    """Fills `Releases` with the one version that apt has installed."""

    fixed = BY_APT

    def __init__(self, board: Board, manager: ServiceManager) -> None:
        self._board = board
        self._manager = manager

    def version(self) -> str:
        for found in distributions(name="rankfleet", path=[str(self._board.package)]):
            return found.version
        raise StoreError(f"{self._board.package} does not say its version: apt install --reinstall rankfleet-agent")

    def install(self, bundle: Path) -> Change:
        raise ReleaseError(BY_APT)

    def go_back(self) -> Change:
        raise ReleaseError(BY_APT)

    def recover(self) -> Change | None:
        return None

    @contextmanager
    def agent_stopped(self) -> Iterator[None]:
        with _stopped(self._manager):
            yield


@contextmanager
def _stopped(manager: ServiceManager) -> Iterator[None]:
    ran = manager.process() is not None
    manager.stop()
    try:
        yield
    finally:
        if ran:
            manager.start()
