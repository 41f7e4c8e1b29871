"""`rankfleet profile page`: how fast the live page is with a large fleet."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.cli.options import minimum

if TYPE_CHECKING:
    from profiling.page.measure import PageTimes, Spread

_PAGE = """\
Opens the live page of a simulated fleet in Chromium, again and again, each time with nothing cached, and shows the time
to the first paint and to the table of devices. Needs Chromium, and Playwright (pip install 'rankfleet[dev]').
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `rankfleet profile`."""
    page = commands.add_parser("page", help="how fast the live page is", description=_PAGE)
    page.add_argument("--devices", type=minimum(2), default=1000, help="devices of the fleet (default: %(default)s)")
    page.add_argument("--rounds", type=minimum(1), default=30, help="closed rounds (default: %(default)s)")
    page.add_argument("--repeats", type=minimum(3), default=15, help="times that count (default: %(default)s)")
    page.add_argument("--pack", type=Path, metavar="PACK", help="a model pack, for the map of its ranks")
    page.add_argument("--json", action="store_true", help="print JSON")
    page.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the times. Raises ConfigError: there is no Chromium, or no Playwright."""
    from profiling.page.fleet import Simulated  # noqa: PLC0415 (a help text needs none of it)
    from profiling.page.measure import measure  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        pack = args.pack or Path(folder) / "no-pack"
        found = measure(Simulated(Path(folder), args.devices, args.rounds, pack.resolve()), args.repeats)
    print(msgspec.json.encode(found).decode() if args.json else _lines(found))
    return 0


def _lines(found: PageTimes) -> str:
    return (
        f"{found.devices} devices, {found.rounds} rounds; {found.browser}, {found.repeats} times, nothing cached\n"
        f"  first paint      {_spread(found.first_paint)}\n"
        f"  devices shown    {_spread(found.fleet_shown)}\n"
        f"  first message    {found.first_message_bytes} bytes\n"
        f"  a second's news  {found.message_bytes} bytes"
    )


def _spread(one: Spread) -> str:
    return (
        f"median {one.median_ms:.0f} ms, quartiles {one.first_quartile_ms:.0f} to {one.third_quartile_ms:.0f} ms, "
        f"extremes {one.least_ms:.0f} to {one.most_ms:.0f} ms"
    )
