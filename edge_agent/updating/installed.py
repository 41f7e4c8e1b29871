"""The releases of this board, as `edge_agent.releases` keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.releases import store
from edge_agent.releases.change import Changer
from edge_agent.releases.layout import Board
from edge_agent.releases.limits import Limits
from edge_agent.releases.service_manager import service_manager
from edge_agent.updating.releases import Change, Releases
from edge_agent.wire.errors import StoreError
from edge_agent.wire.folder_lock import only_one

SPOOL = "spool"


@contextmanager
def board_releases(prefix: Path, idle_s: float, steady_s: float) -> Iterator[tuple[Releases, Path]]:
    """The releases below `prefix`, kept from other installers, and a folder of root's own for the updater.

    Raises:
        StoreError: no release is installed there, or another installer or updater is at work.
    """
    board = Board(prefix.resolve())
    if store.current(board) is None:
        raise StoreError(f"no release is installed in {board.home}: run the installer of your gateway first")
    with only_one(board.home, "installer or updater"):
        yield _Installed(Changer(board, service_manager(board), Limits(idle_s, steady_s))), board.home / SPOOL


class _Installed:
    """Fills `Releases`."""

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
        manager = self._changer.manager
        ran = manager.process() is not None
        manager.stop()
        try:
            yield
        finally:
            if ran:
                manager.start()
