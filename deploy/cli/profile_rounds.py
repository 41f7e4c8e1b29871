"""`rankfleet profile overhead`: what recording a round costs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from deploy.cli.options import minimum

_OVERHEAD = """\
Trains the same round on this device with and without recording it, in turn, and shows medians, the median of the
differences and their interquartile range. The agent must have joined a fleet before (a demo's agents have:
RUN/agents/NAME/agent.toml). Nothing is sent or kept.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands that are about recorded rounds."""
    overhead = commands.add_parser("overhead", help="what recording a round costs", description=_OVERHEAD)
    overhead.add_argument("config", type=Path, metavar="CONFIG", help="the agent's TOML file")
    overhead.add_argument("--pairs", type=minimum(1), default=8, help="pairs of rounds (default: %(default)s)")
    overhead.add_argument("--json", action="store_true", help="print the pairs as JSON")
    overhead.set_defaults(run=run_overhead)


def run_overhead(args: argparse.Namespace) -> int:
    """Measures the overhead. Raises as `profiling.overhead.measure_pairs`."""
    from profiling.overhead import LIMIT, measure_pairs, summarise  # noqa: PLC0415 (a help text needs none of it)

    pairs = []
    for pair in measure_pairs(args.config, args.pairs):
        pairs.append(pair)
        line = f"without {pair.without.wall_s:.3f} s, {pair.without.cpu_s:.3f} s CPU"
        line += f"; recorded {pair.recorded.wall_s:.3f} s, {pair.recorded.cpu_s:.3f} s CPU"
        print(line, file=sys.stderr, flush=True)
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(pairs), indent=2) + b"\n")
        return 0
    print("figure  without  recorded  difference  interquartile range    share")
    for one in summarise(pairs):
        print(
            f"{one.figure:<6}  {one.without:>7.3f}  {one.recorded:>8.3f}  {one.difference:>10.4f}  {one.spread:>19.4f}"
            f"  {one.share:>6.2%}"
        )
    print(f"{len(pairs)} pairs; the limit is {LIMIT:.0%} of a round")
    return 0
