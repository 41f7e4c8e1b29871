"""`rankfleet profile`: what a round costs a device."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from profiling.budget import Row

MIB = 2**20
_BUDGET = """\
Trains one round under each of several memory budgets, on the device's own data, and shows the plan that each leads to,
the peak that was predicted and the one that was measured. The agent must have joined a fleet before (a demo's agents
have: RUN/agents/NAME/agent.toml). Nothing is sent or kept.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("profile", help="what a round costs a device", description="Measurements.")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    budget = commands.add_parser("budget", help="plan and peak by memory budget", description=_BUDGET)
    budget.add_argument("config", type=Path, metavar="CONFIG", help="the agent's TOML file")
    budget.add_argument("mib", type=int, nargs="+", metavar="MIB", help="budgets in MiB")
    budget.add_argument("--json", action="store_true", help="print the rows as JSON")
    budget.set_defaults(run=run_budget)


def run_budget(args: argparse.Namespace) -> int:
    """Measures budgets. Raises as `profiling.budget.measure_budgets`."""
    from profiling.budget import measure_budgets  # noqa: PLC0415 (a help text needs none of it)

    rows = measure_budgets(args.config, [mib * MIB for mib in args.mib])
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
        return 0
    print("budget MiB  micro-batch  depth  ranks  predicted MB  measured MB  trainer RSS MB  step s")
    for row in rows:
        print(_line(row))
    return 0


def _line(row: Row) -> str:
    head = f"{row.budget_bytes / MIB:>10.0f}"
    if row.predicted_bytes is None or row.measured_bytes is None or row.trainer_rss_bytes is None:
        return f"{head}  {row.reason}"
    return (
        f"{head}  {row.micro_batch:>11}  {row.depth:>5}  {row.ranks:>5}  {row.predicted_bytes / 1e6:>12.1f}"
        f"  {row.measured_bytes / 1e6:>11.1f}  {row.trainer_rss_bytes / 1e6:>14.1f}  {row.step_s:>6.3f}"
    )
