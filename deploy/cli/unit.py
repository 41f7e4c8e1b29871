"""`rankfleet agent unit`: the systemd units of a board."""

from __future__ import annotations

import argparse
from pathlib import Path

_ABOUT = """\
Prints the systemd units of an agent: the agent itself, and the service and timer that renew and update it. Limits of
memory come from memory.budget_bytes, so run this again when that has changed. With --install they are written to
/etc/systemd/system, which needs root.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `rankfleet agent`."""
    parser = commands.add_parser("unit", help="print or write the systemd units", description=_ABOUT)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the agent's TOML file")
    parser.add_argument(
        "--release", type=Path, metavar="DIR", help="where it is installed (default: /opt/rankfleet/current)"
    )
    parser.add_argument("--user", help="the user that the agent runs as (default: rankfleet)")
    parser.add_argument("--install", action="store_true", help="write them instead")
    parser.add_argument("--root", type=Path, default=Path("/"), help="write them below this folder (default: /)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints or writes the units. Raises as `units.render`, and StoreError where they cannot be written."""
    from deploy.board import units  # noqa: PLC0415 (a help text needs none of it)
    from edge_agent import config  # noqa: PLC0415
    from edge_agent.wire.errors import StoreError  # noqa: PLC0415

    rendered = units.render(
        config.load(args.config), args.config, args.release or units.RELEASE, args.user or units.USER
    )
    for name, text in rendered.items():
        path = args.root / units.FOLDER / name
        if not args.install:
            print(f"# {Path('/') / units.FOLDER / name}\n{text}")
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}; run this as root") from error
        print(f"wrote {path}")
    if args.install:
        print(f"now: systemctl daemon-reload && systemctl enable --now {units.AGENT} {units.TIMER}")
    return 0
