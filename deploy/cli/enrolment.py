"""`rankfleet coordinator token`, `requests`, `approve` and so on: who is in a fleet."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.cli import fleet
from deploy.cli.options import minimum

if TYPE_CHECKING:
    from coordinator.enrolment.desk import Desk
    from coordinator.enrolment.opening import Fleet

WHO = "the command line"
_TOKEN = """\
Makes a token and prints the one line to paste on a board. It admits one board, within a quarter of an hour unless
--valid-min says otherwise. With --device it is for that name only, which may then come with another key than before.
"""
_REVOKE = """\
Puts a device out: its certificates are refused, its live session ends. Says of which rounds its updates are part.
"""
_PREAPPROVE = """\
Approves beforehand the names in FILE, one a line, perhaps with the fingerprint of the board's key behind it. Each of
them is in as soon as it asks; a token is needed all the same.
"""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommands to those of `rankfleet coordinator`."""
    made = _command(commands, "token", "make a token, and the line to paste on a board", token, _TOKEN)
    made.add_argument("--device", metavar="NAME", help="for this name only")
    made.add_argument("--valid-min", type=minimum(1), default=15, metavar="N", help="minutes that it is valid (15)")
    _command(commands, "requests", "show the boards that ask to be let in", requests)
    _command(commands, "devices", "show the boards of the fleet", devices)
    one = "its id, or the board's name"
    _command(commands, "approve", "let a board in", approve, subject=("request", "REQUEST", one))
    refused = _command(commands, "reject", "refuse a board", reject, subject=("request", "REQUEST", one))
    refused.add_argument("--reason", default="refused by the operator", metavar="TEXT", help="which the board is told")
    name = ("device", "DEVICE", "the board's name")
    _command(commands, "revoke", "put a board out", revoke, _REVOKE, subject=name)
    _command(commands, "rotate", "have a board get itself a new key", rotate, subject=name)
    file = ("file", "FILE", "text file of names")
    _command(commands, "preapprove", "approve a list of names beforehand", preapprove, _PREAPPROVE, subject=file)


def token(args: argparse.Namespace) -> int:
    """Prints the line. Raises ConfigError, StoreError: the folder holds no fleet, or cannot be used."""
    with _desk(args) as (opened, desk):
        text = desk.issue_token(fleet.now(), args.valid_min, args.device)
        line = opened.line(text, args.device)
    _print(args, {"token": text, "line": line}, line)
    return 0


def requests(args: argparse.Namespace) -> int:
    """Prints the requests that wait. Raises as `token`."""
    from coordinator.enrolment import views  # noqa: PLC0415 (a help text needs none of it)

    with _desk(args) as (_, desk):
        found = [views.request_view(one) for one in desk.registry.requests()]
    lines = [f"{one.id}  {one.device:<20}  {one.date}\n    {one.fingerprint}" for one in found]
    _print(args, found, "\n".join(lines) or "no board waits for approval")
    return 0


def devices(args: argparse.Namespace) -> int:
    """Prints the devices. Raises as `token`."""
    from coordinator.enrolment import views  # noqa: PLC0415

    with _desk(args) as (_, desk):
        found = views.devices(desk.registry)
    lines = [
        f"{one.name:<20}  {one.state:<8}  until {one.not_after}{'  new key ordered' if one.rotate else ''}"
        for one in found
    ]
    _print(args, found, "\n".join(lines) or "the fleet has no devices yet: rankfleet coordinator token FOLDER")
    return 0


def approve(args: argparse.Namespace) -> int:
    """Lets a board in. Raises as `token`, and EnrolmentError: there is no such request."""
    return _decide(args, lambda desk: desk.approve(desk.find(args.request).id, fleet.now()))


def reject(args: argparse.Namespace) -> int:
    """Refuses a board. Raises as `approve`."""
    return _decide(args, lambda desk: desk.reject(desk.find(args.request).id, args.reason, fleet.now()))


def revoke(args: argparse.Namespace) -> int:
    """Puts a device out and says what it leaves behind. Raises as `approve`, and LinkError: it may be connected yet."""
    from coordinator.enrolment.history import past_rounds  # noqa: PLC0415
    from coordinator.enrolment.run_folder import run_dir  # noqa: PLC0415

    with _desk(args) as (opened, desk):
        revoked = desk.revoke(args.device, fleet.now())
    serials = [f"{serial:x}" for serial in revoked.serials]
    rounds = past_rounds(run_dir(opened.folder), args.device)
    part = f"rounds {', '.join(map(str, rounds))} contain its updates" if rounds else "no round contains its updates"
    said = f"{args.device} is revoked: {len(serials)} certificates; {revoked.session}; {part}"
    _print(args, {"device": args.device, "serials": serials, "session": revoked.session, "rounds": rounds}, said)
    return 0


def rotate(args: argparse.Namespace) -> int:
    """Orders a new key. Raises as `approve`."""
    with _desk(args) as (_, desk):
        desk.rotate(args.device, fleet.now())
    _print(args, {"device": args.device}, f"{args.device} gets itself a new key when it next asks for orders")
    return 0


def preapprove(args: argparse.Namespace) -> int:
    """Approves names beforehand. Raises as `token`, and ConfigError: the file cannot be read."""
    from coordinator.enrolment.joining import read_names  # noqa: PLC0415
    from edge_agent.wire.settings import read_text  # noqa: PLC0415

    names = read_names(read_text(args.file, "names"))
    with _desk(args) as (_, desk):
        desk.preapprove(names, fleet.now())
    _print(args, {"devices": [name.device for name in names]}, f"{len(names)} names are approved beforehand")
    return 0


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    about: str,
    run: Callable[[argparse.Namespace], int],
    description: str | None = None,
    subject: tuple[str, str, str] | None = None,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=description or f"{about.capitalize()}.")
    if subject is not None:
        key, shown, meaning = subject
        parser.add_argument(key, metavar=shown, help=meaning, type=Path if key == "file" else str)
    fleet.add_folder(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def _decide(args: argparse.Namespace, decide: Callable[[Desk], Any]) -> int:
    from coordinator.enrolment import views  # noqa: PLC0415

    with _desk(args) as (_, desk):
        view = views.request_view(decide(desk))
    _print(args, view, f"{view.device} is {view.state}; fingerprint {view.fingerprint}")
    return 0


@contextmanager
def _desk(args: argparse.Namespace) -> Iterator[tuple[Fleet, Desk]]:
    opened = fleet.opened(args.folder)
    with opened.desk(WHO) as desk:
        yield opened, desk


def _print(args: argparse.Namespace, found: object, text: str) -> None:
    import msgspec  # noqa: PLC0415

    print(msgspec.json.encode(found).decode() if args.json else text)
