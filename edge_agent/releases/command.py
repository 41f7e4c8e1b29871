"""What the installer calls, and what `rankfleet agent upgrade`, `rollback` and `uninstall` do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.wire.errors import ReleaseError
from edge_agent.wire.folder_lock import only_one

from . import durable, provision
from .change import Changer, Outcome
from .layout import BY_APT, Board
from .limits import Limits
from .provision import Membership
from .service_manager import service_manager
from .store import complete, current, previous
from .uninstall import uninstall as remove_all

PROGRAM = "installer"


def install(args: argparse.Namespace) -> int:
    """Installs a release and what is around it. Raises ReleaseError, ConfigError."""
    board = _board(args)
    if board.packaged:
        raise ReleaseError(BY_APT)
    manager = service_manager(board)
    with _ours(board):
        _provision(board, args)
        if args.pack is not None:
            provision.seed_pack(board, args.pack)
            _say("the model pack is in place: it will not be fetched")
        status = _tell(Changer(board, manager).install(args.bundle))
        provision.link_command(board)
    if not manager.manages:
        _say("no systemd runs here: nothing is started")
    return status


def configure(args: argparse.Namespace) -> int:
    """Makes what is around the agent of the Debian package. Raises ReleaseError, ConfigError."""
    board = _board(args)
    if not board.packaged:
        raise ReleaseError(f"the package rankfleet-agent is not installed in {board.package}: install it with apt")
    with _refusals():
        _provision(board, args)
    return 0


def _provision(board: Board, args: argparse.Namespace) -> None:
    membership = Membership(
        args.device, args.fleet, args.gateway, args.broker_port, args.data,
        None if args.budget_mib is None else args.budget_mib * 2**20,
    )  # fmt: skip
    provision.make_user(board)
    provision.make_folders(board)
    provision.write_authority(board, _read(args.ca))
    written = provision.write_config(board, membership)
    _say(f"{board.config}: {'written' if written else 'kept as it is'}")


def upgrade(args: argparse.Namespace) -> int:
    """Installs another release. Raises ReleaseError."""
    board = _installed(args)
    with _ours(board):
        return _tell(_changer(board, args).install(args.bundle))


def rollback(args: argparse.Namespace) -> int:
    """Returns to the release before. Raises ReleaseError."""
    board = _installed(args)
    with _ours(board):
        return _tell(_changer(board, args).go_back())


def uninstall(args: argparse.Namespace) -> int:
    """Removes everything. Raises ReleaseError."""
    board = _board(args)
    if board.packaged:
        raise ReleaseError(BY_APT)
    keep_data = args.keep_data or (not args.purge and _keeps(board))
    board.home.mkdir(parents=True, exist_ok=True)
    with _ours(board):
        kept = remove_all(board, service_manager(board), keep_data=keep_data)
    _say("rankfleet is removed" + (f"; kept: {', '.join(map(str, kept))}" if kept else ", nothing of it is left"))
    return 0


def _keeps(board: Board) -> bool:
    """Asks; whoever cannot answer must say it beforehand."""
    if not board.var.exists():
        return False
    if not sys.stdin.isatty():
        raise ReleaseError("uninstall would delete the board's texts and state: say --purge or --keep-data")
    answer = input(f"Delete the texts and what the agent learnt, in {board.var}, too? [y/N] ")
    return answer.strip().lower() not in {"y", "yes"}


def status(args: argparse.Namespace) -> int:
    """Prints the releases on this board; 1 where there is none."""
    board = _board(args)
    now, before = current(board), previous(board)
    for release in complete(board).values():
        role = "current" if release == now else "previous" if release == before else "unused"
        _say(f"{release.version} {role}")
    return 0 if now else 1


def _changer(board: Board, args: argparse.Namespace) -> Changer:
    return Changer(board, service_manager(board), Limits(idle_s=args.idle_s, steady_s=args.steady_s))


def _tell(outcome: Outcome) -> int:
    if outcome.kind == "returned":
        _say(f"release {outcome.release.version} runs again: {outcome.reason}")
        return 1
    _say(f"release {outcome.release.version} is installed" + (f": {outcome.reason}" if outcome.reason else ""))
    return 0


def _board(args: argparse.Namespace) -> Board:
    return Board(args.prefix.resolve())


def _installed(args: argparse.Namespace) -> Board:
    board = _board(args)
    if board.packaged:
        raise ReleaseError(BY_APT)
    if current(board) is None:
        raise ReleaseError(f"no release is installed in {board.home}: run the installer of your gateway first")
    return board


@contextmanager
def _ours(board: Board) -> Iterator[None]:
    """Keeps other installers away."""
    with _refusals(), only_one(board.home, PROGRAM):
        yield


@contextmanager
def _refusals() -> Iterator[None]:
    """Says for a person what the system refused."""
    try:
        with durable.for_everybody():
            yield
    except OSError as error:
        raise ReleaseError(f"the disk cannot be written or read: {error}; be root, and check free space") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{path} cannot be read: {error.strerror}") from error


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (this is a command)
