"""`rankfleet profile run`, `compare`, `report` and `overhead`: recorded rounds, and what recording them costs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from deploy.cli.options import minimum

_OVERHEAD = """\
Trains the same round on this device with and without recording it, in turn, and shows medians, the median of the
differences with its 95 % interval by the bootstrap, and what recording took by its own count. The agent must have
joined a fleet before (a demo's agents have: RUN/agents/NAME/agent.toml). Nothing is sent or kept.
"""
_RUN = """\
Shows what the phases of recorded rounds cost each device, as medians over the rounds that trained, and the plan of each
round beside what came of it. docs/profiling.md tells what is recorded and how it is measured.
"""
_COMPARE = """\
Compares two records, of two runs or two boards: by phase and figure, the difference of the medians over the rounds that
trained, its 95 % interval by the bootstrap, and whether that exceeds the noise. Rows that do are marked with *, those
of fewer than 3 rounds on a side with ?.
"""
_REPORT = """\
Writes report.html (one file with its plots, without scripts, that needs no network), report.md, and phases.csv with
every figure of every recorded phase.
"""
_FOLDER = "an agent's state_dir, or the folder of a demo with all of its agents"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands that are about recorded rounds."""
    run = commands.add_parser("run", help="what the phases of recorded rounds cost", description=_RUN)
    run.add_argument("path", type=Path, metavar="RUN", help=_FOLDER)
    run.add_argument("--json", action="store_true", help="print all recorded phases and rounds as JSON")
    run.set_defaults(run=run_run)
    compared = commands.add_parser("compare", help="whether two records differ beyond noise", description=_COMPARE)
    compared.add_argument("first", type=Path, metavar="A", help=_FOLDER)
    compared.add_argument("second", type=Path, metavar="B", help="another")
    compared.add_argument("--all", action="store_true", help="show figures that are the same too")
    compared.add_argument("--json", action="store_true", help="print the differences as JSON")
    compared.set_defaults(run=run_compare)
    report = commands.add_parser("report", help="a page, tables and figures of recorded rounds", description=_REPORT)
    report.add_argument("path", type=Path, metavar="RUN", help=_FOLDER)
    report.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="where to write")
    report.set_defaults(run=run_report)
    overhead = commands.add_parser("overhead", help="what recording a round costs", description=_OVERHEAD)
    overhead.add_argument("config", type=Path, metavar="CONFIG", help="the agent's TOML file")
    overhead.add_argument("--pairs", type=minimum(1), default=8, help="pairs of rounds (default: %(default)s)")
    overhead.add_argument("--json", action="store_true", help="print the pairs as JSON")
    overhead.set_defaults(run=run_overhead)


def run_run(args: argparse.Namespace) -> int:
    """Shows a run. Raises as `profiling.rounds.load.load_run`."""
    from profiling.rounds import load, summary  # noqa: PLC0415 (a help text needs none of it)
    from profiling.table import text_table  # noqa: PLC0415

    run = load.load_run(args.path)
    if args.json:
        entries = {one.name: [*one.phases.values(), *one.rounds.values()] for one in run.devices}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(entries), indent=2) + b"\n")
        return 0
    print(*text_table(summary.header_table(run.devices)), sep="\n")
    for device in run.devices:
        print("", device.name, *text_table(summary.phase_table(device)), sep="\n")
        print("", *text_table(summary.round_table(device)), sep="\n")
    return 0


def run_compare(args: argparse.Namespace) -> int:
    """Compares two runs. Raises as `profiling.rounds.load.load_run`."""
    from profiling.rounds.compare import compare, difference_table  # noqa: PLC0415 (as above)
    from profiling.rounds.load import load_run  # noqa: PLC0415
    from profiling.table import text_table  # noqa: PLC0415

    differences = compare(load_run(args.first), load_run(args.second))
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(differences), indent=2) + b"\n")
        return 0
    shown = differences if args.all else [one for one in differences if one.exceeds_noise is not False]
    print(*text_table(difference_table(shown)), sep="\n")
    print(f"{sum(one.exceeds_noise is True for one in differences)} of {len(differences)} figures differ beyond noise")
    return 0


def run_report(args: argparse.Namespace) -> int:
    """Writes a report. Raises as `profiling.rounds.report.write_report`."""
    from profiling.rounds.load import load_run  # noqa: PLC0415 (as above)
    from profiling.rounds.report import write_report  # noqa: PLC0415

    command = f"rankfleet profile report {args.path} -o {args.out}"
    for path in write_report(args.path, load_run(args.path), args.out, command):
        print(path)
    return 0


def run_overhead(args: argparse.Namespace) -> int:
    """Measures the overhead. Raises as `profiling.overhead.measure_pairs`."""
    from profiling.overhead import LIMIT, measure_pairs, own_share, summarise  # noqa: PLC0415 (a help text needs none of it)

    pairs = []
    for pair in measure_pairs(args.config, args.pairs):
        pairs.append(pair)
        line = f"without {pair.without.wall_s:.3f} s, {pair.without.cpu_s:.3f} s CPU"
        line += f"; recorded {pair.recorded.wall_s:.3f} s, {pair.recorded.cpu_s:.3f} s CPU"
        print(line, file=sys.stderr, flush=True)
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(pairs), indent=2) + b"\n")
        return 0
    print("figure  without  recorded  difference       95 % interval    share")
    for one in summarise(pairs):
        bounds = f"{one.low:+.3f} to {one.high:+.3f}"
        print(
            f"{one.figure:<6}  {one.without:>7.3f}  {one.recorded:>8.3f}  {one.difference:>+10.3f}  {bounds:>18}"
            f"  {one.share:>+7.2%}"
        )
    print(f"recording took {own_share(pairs):.2%} of the CPU time of a round, by its own count")
    print(f"{len(pairs)} pairs; the limit is {LIMIT:.0%} of a round")
    return 0
