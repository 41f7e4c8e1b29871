"""`rankfleet profile board` and `cost`: what a device can do, and whether a run pays."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from profiling.board import Abilities, Measured
    from profiling.table import Table

_BOARD = """\
Shows step time and peak memory by depth, ranks of a module and micro-batch, as the device's own cost table predicts
them, which planning and allocation go by; and beside these what rounds of a few steps really took on its own data. The
agent must have joined a fleet before. Nothing is sent or kept.
"""
_COST = """\
Prices a recorded run, with data, energy, boards and engineers at the prices of a TOML file, beside sending the raw data
to one machine that trains. Prints every assumption, and what a pilot should measure first. profiling/prices.toml in the
sources is an example to change.
"""
_MB = 1e6


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds both."""
    board = commands.add_parser("board", help="what a device can do", description=_BOARD)
    board.add_argument("config", type=Path, metavar="CONFIG", help="the agent's TOML file")
    board.add_argument("--predict-only", action="store_true", help="train nothing")
    board.add_argument("--json", action="store_true", help="print it as JSON")
    board.set_defaults(run=run_board)
    cost = commands.add_parser("cost", help="what a run costs, and the other way", description=_COST)
    cost.add_argument("prices", type=Path, metavar="PRICES.toml", help="prices")
    cost.add_argument("path", type=Path, metavar="RUN", help="an agent's state_dir, or the folder of a demo")
    cost.add_argument("--json", action="store_true", help="print it as JSON")
    cost.set_defaults(run=run_cost)


def run_board(args: argparse.Namespace) -> int:
    """Shows what a device can do. Raises as `profiling.board.profile_board`."""
    from profiling.board import profile_board  # noqa: PLC0415 (a help text needs none of it)
    from profiling.table import text_table  # noqa: PLC0415

    found = profile_board(args.config, measure=not args.predict_only)
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        return 0
    print(
        f"{found.device}: budget {found.budget_bytes / _MB:.1f} MB, {found.threads} threads, batches of {found.batch}, "
        f"{found.tokens} tokens"
    )
    print("", "predicted, no block kept:", *text_table(_predicted_table(found)), sep="\n")
    if found.measured:
        print("", "measured, as the device plans it:", *text_table(_measured_table(found)), sep="\n")
    return 0


def run_cost(args: argparse.Namespace) -> int:
    """Prices a run. Raises as `load_prices` and `load_run` of `profiling.rounds`."""
    from profiling.rounds.load import load_run  # noqa: PLC0415 (as above)
    from profiling.rounds.prices import load_prices  # noqa: PLC0415
    from profiling.rounds.worth import cost_table, find_worth  # noqa: PLC0415
    from profiling.table import text_table  # noqa: PLC0415

    worth = find_worth(load_run(args.path), load_prices(args.prices))
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(worth), indent=2) + b"\n")
        return 0
    print(*text_table(cost_table(worth)), sep="\n")
    if worth.break_even_bytes is not None:
        print(f"both ways cost the same where a raw record has {worth.break_even_bytes:,.0f} bytes")
    for title, lines in (("assumptions:", worth.assumptions), ("a pilot:", worth.pilot)):
        print("", title, *(f"  - {line}" for line in lines), sep="\n")
    return 0


def _predicted_table(found: Abilities) -> Table:
    from profiling.table import Table  # noqa: PLC0415 (as above)

    head = ("depth", "ranks", "micro-batch", "step s", "peak MB", "fits")
    rows: list[tuple[str, ...]] = [
        (
            str(one.depth),
            str(one.ranks),
            str(one.micro_batch),
            f"{one.step_s:.3f}",
            f"{one.peak_bytes / _MB:.1f}",
            "yes" if one.fits else "no",
        )
        for one in found.predicted
    ]
    return Table(head, rows, words=0)


def _measured_table(found: Abilities) -> Table:
    from profiling.table import Table  # noqa: PLC0415 (as above)

    head = (
        "depth", "ranks", "micro-batch", "kept", "predicted step s", "step s", "predicted MB", "peak MB", "down",
    )  # fmt: skip
    return Table(head, [_measured_cells(one) for one in found.measured], words=0)


def _measured_cells(one: Measured) -> tuple[str, ...]:
    from profiling.rounds.figures import NONE, written  # noqa: PLC0415 (as above)

    sizes = [None if value is None else value / _MB for value in (one.predicted_bytes, one.peak_bytes)]
    counts = [NONE if value is None else str(value) for value in (one.micro_batch, one.kept_blocks)]
    return (
        str(one.depth),
        str(one.ranks),
        *counts,
        written(one.predicted_step_s, 3),
        written(one.step_s, 3),
        *(written(size, 1) for size in sizes),
        one.reason or (NONE if one.step_downs is None else str(one.step_downs)),
    )
