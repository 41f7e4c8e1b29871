"""`rankfleet coordinator update`: a release for the whole fleet, group by group."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cli import fleet
from deploy.cli.options import minimum
from edge_agent.wire.errors import ConfigError

if TYPE_CHECKING:
    from coordinator.enrolment.folder import FleetFolder
    from coordinator.enrolment.rollout import Release, Rollout, Terms
    from coordinator.enrolment.rollout_store import Board, Entry, RolloutStore

_DAY_S, _HOUR_S, _MIN_S = 86400.0, 3600.0, 60.0
_START = """\
Begins the rollout of a release: to the canaries first, then to groups of the fleet, each after the one before has
installed it. It stops by itself when too many of a group fail. Boards ask by their own timers, so nothing happens at
once; see `rankfleet coordinator update status`.
"""
_CHANGES = {
    "pause": "offer nothing more until resume",
    "resume": "go on after a pause",
    "stop": "offer nothing more; what is installed stays",
    "return": "offer nothing more, and have the boards that took the release go back to the one before",
}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `update` to the subcommands of the coordinator."""
    parser = commands.add_parser("update", help="update the agents or the pack of a fleet", description=__doc__)
    actions = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    _add_start(actions)
    status_parser = actions.add_parser("status", help="how the rollouts go", description="The rollouts, newest first.")
    _add_common(status_parser, status)
    for name, what in _CHANGES.items():
        change_parser = actions.add_parser(name, help=what, description=f"Has the newest rollout {name}: {what}.")
        change_parser.add_argument("--rollout", type=minimum(1), metavar="N", help="another one than the newest")
        _add_common(change_parser, change)
        change_parser.set_defaults(change=name)


def _add_start(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("start", help="begin a rollout", description=_START)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--release", type=Path, nargs="+", metavar="FILE", help="bundles of one version, one for each kind of board"
    )
    what.add_argument("--pack", type=Path, metavar="PACK", help="folder of a model pack")
    canaries = parser.add_mutually_exclusive_group()
    canaries.add_argument("--canary", type=minimum(1), default=1, metavar="N", help="so many canaries are drawn (1)")
    canaries.add_argument(
        "--canary-device", action="append", metavar="NAME", help="a device that is a canary; may be repeated"
    )
    parser.add_argument(
        "--groups", type=_share, nargs="+", default=[0.25, 1.0], metavar="SHARE",
        help="shares of the fleet that have got the release after each group (25%% 100%%)",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=_share, default=0.9, metavar="SHARE", help="share of a group that must succeed (0.9)"
    )
    parser.add_argument("--soak-min", type=minimum(0), default=60, metavar="N", help="minutes between groups (60)")
    parser.add_argument(
        "--silent-h", type=minimum(1), default=48, metavar="N", help="hours until a board counts as silent (48)"
    )
    parser.add_argument(
        "--seen-days", type=minimum(1), default=30, metavar="N", help="only boards that asked within so many days (30)"
    )
    parser.add_argument("--seed", help="draws other groups than the release's checksum does")
    _add_common(parser, start)


def _add_common(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    fleet.add_folder(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a rollout, a line each")
    parser.set_defaults(run=run)


def start(args: argparse.Namespace) -> int:
    """Begins a rollout. Raises ConfigError, PackError or StoreError."""
    from coordinator.enrolment import rollout as r  # noqa: PLC0415 (a help text needs none of it)

    folder, store = _open(args)
    release = _release(args, folder)
    members = _members(folder)
    boards = [board for board in store.boards(args.seen_days * _DAY_S) if board.device in members]
    canaries = args.canary if args.canary_device is None else tuple(args.canary_device)
    seed = release.bundles[0].sha256 if args.seed is None else args.seed
    groups = r.deal((board.device for board in boards), canaries, tuple(args.groups), seed)
    terms: Terms = r.Terms(args.threshold, args.soak_min * _MIN_S, args.silent_h * _HOUR_S)
    entry = store.start(release, terms, groups)
    _show(entry, args)
    if not args.json:
        _warn_unfit(release, boards)
    return 0


def status(args: argparse.Namespace) -> int:
    """Prints every rollout; 1 if the newest of a kind has stopped."""
    _, store = _open(args)
    entries = store.entries()
    for entry in entries:
        _show(entry, args)
    if not entries and not args.json:
        print("no rollout yet")
    newest = {entry.rollout.release.kind: entry.rollout.phase for entry in reversed(entries)}
    return int("stopped" in newest.values())


def change(args: argparse.Namespace) -> int:
    """Pauses, resumes, stops or returns a rollout. Raises ConfigError or StoreError."""
    from coordinator.enrolment import rollout as r  # noqa: PLC0415

    _, store = _open(args)
    number = args.rollout or next((entry.number for entry in store.entries()), None)
    if number is None:
        raise ConfigError("there is no rollout yet: begin one with `rankfleet coordinator update start`")
    act = {"pause": r.pause, "resume": r.resume, "stop": r.stop, "return": r.order_return}[args.change]
    _show(store.change(number, act), args)
    return 0


def _open(args: argparse.Namespace) -> tuple[FleetFolder, RolloutStore]:
    from coordinator.enrolment.rollout_store import RolloutStore  # noqa: PLC0415

    folder = fleet.opened(args.folder).folder
    return folder, RolloutStore(folder.rollouts)


def _members(folder: FleetFolder) -> set[str]:
    """The devices that may still ask for orders."""
    from coordinator.enrolment.registry import Registry  # noqa: PLC0415

    with closing(Registry(folder.database)) as registry:
        return {device.name for device in registry.devices() if not device.revoked}


def _release(args: argparse.Namespace, folder: FleetFolder) -> Release:
    from coordinator.enrolment import release_files  # noqa: PLC0415

    if args.pack is not None:
        return release_files.pack_release(args.pack, folder.releases)
    return release_files.agent_release(args.release, folder.releases)


def _show(entry: Entry, args: argparse.Namespace) -> None:
    if args.json:
        import msgspec  # noqa: PLC0415

        print(msgspec.json.encode(entry).decode())
        return
    rollout = entry.rollout
    print(f"rollout {entry.number}: {rollout.release.kind} {rollout.release.version}, {rollout.phase}", end="")
    print(f": {rollout.why}" if rollout.why else "")
    for number, names in enumerate(rollout.groups):
        print(_group_line(rollout, number, names))
    for name, device in rollout.devices.items():
        if device.outcome not in ("pending", "untouched", "installed"):
            print(f"  {name}: {device.outcome}" + (f", {device.reason}" if device.reason else ""))


def _group_line(rollout: Rollout, number: int, names: tuple[str, ...]) -> str:
    counts = Counter(rollout.devices[name].outcome for name in names)
    what = "open" if number < len(rollout.opened_s) else "closed"
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    return f"  group {number + 1} of {len(rollout.groups)}, {what}, {len(names)} devices: {told}"


def _warn_unfit(release: Release, boards: list[Board]) -> None:
    for board in boards:
        if not any(bundle.fits(board.facts) for bundle in release.bundles):
            print(f"  no bundle fits {board.device}: {board.facts.machine} with Python {board.facts.python}")


def _share(text: str) -> float:
    """`25%` or `0.25`."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"expected a share such as 25% or 0.25, got {text!r}")
    return share
