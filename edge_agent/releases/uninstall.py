"""Removes rankfleet from a board, so that nothing is left of it, or only what the agent learnt and its texts."""

from __future__ import annotations

from pathlib import Path

from edge_agent.wire.errors import ReleaseError

from . import durable, provision
from .idle import runs
from .layout import Board
from .service_manager import ServiceManager


def uninstall(board: Board, manager: ServiceManager, *, keep_data: bool) -> list[Path]:
    """Stops the agent and removes releases, links, units, configuration, keys, user; what of ours is left.

    With `keep_data` the folders of texts and state stay, and with them their owner. Nothing outside of rankfleet's own
    folders is deleted, wherever the configuration says that texts are. The releases go last: interrupted, it can be
    called again from the same one.

    Raises:
        ReleaseError: an agent runs that no service manager started, or a service cannot be stopped.
        OSError: something cannot be deleted.
    """
    manager.forget()
    if runs(board.state_dir()):
        raise ReleaseError(f"an agent runs with {board.state_dir()}: stop it, and uninstall again")
    _remove_units(board)
    manager.reread()
    durable.remove(board.command)
    durable.remove_tree(board.settings)
    durable.remove_tree(board.identity)
    if not keep_data:
        durable.remove_tree(board.var)
        provision.remove_user(board)
    durable.remove_tree(board.home)
    return [folder for folder in (board.data, board.state) if folder.exists()]


def _remove_units(board: Board) -> None:
    """Unit files, what an operator put beside them, and the links that enabled them."""
    for path in [*board.units.glob("rankfleet-agent.*"), *board.units.glob("rankfleet-update.*")]:
        durable.remove_tree(path)
    for path in board.units.glob("*.wants/rankfleet-*"):
        durable.remove(path)
