"""`rankfleet profile`: what a round costs a device."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.cli import profile_board, profile_page, profile_rounds
from deploy.cli.options import minimum

if TYPE_CHECKING:
    from profiling.budget import Row
    from profiling.installed import Size

MIB = 2**20
_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
_BUDGET = """\
Trains one round under each of several memory budgets, on the device's own data, and shows the plan that each leads to,
the peak that was predicted and the one that was measured. The agent must have joined a fleet before (a demo's agents
have: RUN/agents/NAME/agent.toml). Nothing is sent or kept.
"""
_ENGINE = """\
Trains the same adapters on the same random batch with this project's engine in several modes, with torch and with PEFT,
each in a process of its own, all in turn. docs/benchmarks.md tells what is measured and how. Needs
`pip install 'rankfleet[pack]'`, and peft for the modes lora and adalora.
"""
_INSTALLED = """\
Installs what an agent needs into a temporary folder, as a board of another kind would, and shows what it takes on its
disk. Compiled bytecode is what 'pip install --no-compile' leaves out.
"""
_IDLE = """\
Starts a broker with TLS, a coordinator and an agent on this machine, and measures the agent's supervisor while nothing
is trained: before its fleet's first round, and after one. Needs Mosquitto and `pip install 'rankfleet[gateway]'`.
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
    _add_engine(commands)
    profile_page.add_to(commands)
    profile_board.add_commands(commands)
    profile_rounds.add_commands(commands)
    installed = commands.add_parser("installed", help="what an agent takes on a board's disk", description=_INSTALLED)
    installed.add_argument("--machine", default="aarch64", help="as `uname -m` says it (default: %(default)s)")
    installed.add_argument("--python", default=_HERE, metavar="X.Y", help="the board's Python (default: %(default)s)")
    installed.add_argument(
        "-c", "--constraint", type=Path, metavar="FILE", help="versions to choose, as pip takes them"
    )
    installed.add_argument("--json", action="store_true", help="print the sizes as JSON")
    installed.set_defaults(run=run_installed)
    idle = commands.add_parser("idle", help="what an agent takes of memory while it waits", description=_IDLE)
    idle.add_argument("pack", type=Path, metavar="PACK", help="folder of a model pack")
    idle.add_argument(
        "--samples", type=minimum(1), default=10, help="samples of each state, a second apart (default: %(default)s)"
    )
    idle.add_argument("--json", action="store_true", help="print the samples as JSON")
    idle.set_defaults(run=run_idle)


def _add_engine(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from profiling.bench.modes import DEFAULT  # noqa: PLC0415 (only this command's)

    engine = commands.add_parser("engine", help="this engine beside torch and PEFT", description=_ENGINE)
    engine.add_argument("model", metavar="MODEL", help="model folder, name to fetch, or bert-base-shape")
    engine.add_argument(
        "--modes", nargs="+", default=list(DEFAULT), metavar="MODE",
        help="WEIGHTS-mbN-keptK (int8, w8a8, fp16 or fp32; micro-batch; kept blocks or 'all'), the same with -final "
        "for the final ranks, eager, checkpointing, lora, adalora (default: %(default)s)",
    )  # fmt: skip
    for name, default, what in (
        ("batch", 8, "sequences a step"),
        ("tokens", 128, "tokens a sequence"),
        ("rank", 8, "ranks of every linear layer"),
        ("threads", 2, "threads that compute"),
        ("repeats", 7, "steps that are measured, after the first"),
        ("seed", 0, "seed of the batch and the adapters"),
    ):
        engine.add_argument(
            f"--{name}",
            type=minimum(0 if name == "seed" else 1),
            default=default,
            help=f"{what} (default: %(default)s)",
        )
    engine.add_argument(
        "--final-share", type=float, default=0.25, help="share of all ranks that -final keeps (default: %(default)s)"
    )
    engine.add_argument("--run", type=Path, dest="run_dir", help="a run folder: -final takes the ranks that live in it")
    engine.add_argument(
        "--cgroup-mib", type=minimum(1), help="run this engine in memory cgroups of so many MiB, cold caches"
    )
    engine.add_argument("--cache", type=Path, help="folder of fetched models (default: as 'rankfleet fetch')")
    engine.add_argument("--json", action="store_true", help="print the rows as JSON")
    engine.add_argument("--plot", type=Path, metavar="FILE.svg", help="write a plot: memory against step time")
    engine.set_defaults(run=run_engine)


def run_engine(args: argparse.Namespace) -> int:
    """Measures engines. Raises as `profiling.bench.engine.bench_engine`."""
    from deploy.fetch.fetch import cache_folder  # noqa: PLC0415 (as below)
    from profiling.bench import engine, plot, table  # noqa: PLC0415
    from profiling.bench.spec import Work  # noqa: PLC0415

    options = engine.Options(
        model=args.model,
        modes=tuple(args.modes),
        work=Work(args.batch, args.tokens, args.rank, args.threads, args.seed),
        repeats=args.repeats,
        final_share=args.final_share,
        run=args.run_dir,
        cgroup_bytes=None if args.cgroup_mib is None else args.cgroup_mib * MIB,
        cache=args.cache or cache_folder(),
    )
    result = engine.bench_engine(options, lambda line: print(line, file=sys.stderr, flush=True))
    if args.plot is not None:
        args.plot.write_text(plot.svg(result.rows), encoding="utf-8")
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(result.rows), indent=2) + b"\n")
    lines = table.lines(result)
    print(*lines, sep="\n", file=sys.stderr if args.json else sys.stdout)
    return 0


def run_budget(args: argparse.Namespace) -> int:
    """Measures budgets. Raises as `profiling.budget.measure_budgets`."""
    from profiling.budget import measure_budgets  # noqa: PLC0415 (a help text needs none of it)

    rows = measure_budgets(args.config, [mib * MIB for mib in args.mib])
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
        return 0
    print(
        "budget MiB  micro-batch  kept  depth  ranks  predicted MB  measured MB  trainer RSS MB  predicted s  step s"
        "  down"
    )
    for row in rows:
        print(_line(row))
    return 0


def run_installed(args: argparse.Namespace) -> int:
    """Measures an installation. Raises as `profiling.installed.measure`."""
    from profiling import installed  # noqa: PLC0415 (a help text needs none of it)

    machine = installed.Machine(args.machine, args.python)
    sizes = installed.measure(installed.agent_requirements(), machine, args.constraint)
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(sizes), indent=2) + b"\n")
        return 0
    print(f"{'distribution':<28}  {'MB':>6}  bytecode MB")
    for size in sizes:
        print(
            f"{size.name + ' ' + size.version:<28}  {size.size_bytes / 1e6:>6.1f}  {size.compiled_bytes / 1e6:>11.1f}"
        )
    for line in _sums(sizes, installed.LIMIT_BYTES):
        print(line)
    return 0


def run_idle(args: argparse.Namespace) -> int:
    """Measures an idle agent. Raises as `profiling.idle.measure_idle`."""
    from profiling import idle  # noqa: PLC0415 (a help text needs none of it)

    with tempfile.TemporaryDirectory(prefix="rankfleet-idle-") as folder:
        rows = idle.measure_idle(args.pack, Path(folder), args.samples)
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
        return 0
    print(*idle.lines(rows), sep="\n")
    return 0


def _sums(sizes: list[Size], limit_bytes: int) -> list[str]:
    without_bytes = sum(size.size_bytes for size in sizes)
    with_bytes = without_bytes + sum(size.compiled_bytes for size in sizes)
    sums = {"without bytecode": without_bytes, "with bytecode": with_bytes}
    return [
        f"{what:<16}  {size_bytes / 1e6:.1f} MB: {'within' if size_bytes <= limit_bytes else 'over'} "
        f"the limit of {limit_bytes / 1e6:.0f} MB"
        for what, size_bytes in sums.items()
    ]


def _line(row: Row) -> str:
    head = f"{row.budget_bytes / MIB:>10.0f}"
    if row.predicted_bytes is None or row.measured_bytes is None or row.trainer_rss_bytes is None:
        return f"{head}  {row.reason}"
    return (
        f"{head}  {row.micro_batch:>11}  {row.kept_blocks:>4}  {row.depth:>5}  {row.ranks:>5}"
        f"  {row.predicted_bytes / 1e6:>12.1f}  {row.measured_bytes / 1e6:>11.1f}"
        f"  {row.trainer_rss_bytes / 1e6:>14.1f}  {row.predicted_step_s:>11.3f}  {row.step_s:>6.3f}"
        f"  {row.step_downs:>4}"
    )
