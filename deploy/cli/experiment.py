"""`rankfleet experiment`: federated trainings on this machine, to compare methods and settings."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.cli.options import minimum
from edge_agent.wire.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from profiling.experiments.plan import Materials
    from profiling.experiments.progress import Screen
    from profiling.experiments.record import Result
    from profiling.experiments.runner import Means, Outcome
    from profiling.experiments.settings import Experiment

_ABOUT = """\
Trains whole fleets on this machine with the product's own code, by several methods on the same data and seeds, and
compares them. docs/experiments.md explains configuration files. Needs `pip install 'rankfleet[torch]'`, all but 'soak',
which tries the coordinator itself (docs/reliability.md).
"""
_RUN = """\
Runs what a configuration asks for and the cache does not have yet: first the search for every method's learning rate,
then the grid. Every finished run is kept, so the same command goes on where it was ended. A run that fails does not
end the others, but the exit status is 1.
"""
_REPORT = "Writes a page (HTML), tables (Markdown) and rows (JSON) of the results that configurations name, together."

_SWEEP = """\
Varies settings of one method around a base, or in all combinations, and tells by paired differences which of them
matter to its accuracy. Runs are kept and the command goes on as 'rankfleet experiment run' does.
"""
_SOAK = """\
Runs the coordinator with many simulated devices for many rounds while everything goes wrong that can: messages, links,
devices, updates, and the coordinator's own process. Books are kept beside it: no acknowledged update is lost, none
counts twice, averages and states agree, no round waits for ever, and the coordinator's memory does not grow. Time is
simulated, and all that happens follows from the seed. The exit status is 0 only where every law held.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("experiment", help="compare methods on this machine", description=_ABOUT)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    run = commands.add_parser("run", help="run what is missing", description=_RUN)
    run.add_argument("config", type=Path, metavar="CONFIG", help="the experiment's TOML file")
    run.add_argument("--dry-run", action="store_true", help="say how many runs there are, and run nothing")
    _add_means(run)
    run.set_defaults(run=run_run)
    report = commands.add_parser("report", help="write a report of the results", description=_REPORT)
    report.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="TOML files of experiments")
    report.add_argument(
        "--sweep", type=Path, action="append", default=[], metavar="SWEEP",
        help="a sweep's TOML file, for sensitivity curves; may be given again",
    )  # fmt: skip
    report.add_argument("--out", type=Path, metavar="DIR", help="default: report in the folder of the first CONFIG")
    report.set_defaults(run=run_report)
    sweep = commands.add_parser("sweep", help="find the settings that matter", description=_SWEEP)
    sweep.add_argument("config", type=Path, metavar="SWEEP", help="the sweep's TOML file")
    sweep.add_argument("--json", action="store_true", help="print the effects as JSON")
    _add_means(sweep)
    sweep.set_defaults(run=run_sweep)
    _add_soak(commands)


def _add_soak(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    soak = commands.add_parser("soak", help="run a fleet for long while everything goes wrong", description=_SOAK)
    soak.add_argument("--devices", type=minimum(4), default=200, metavar="N", help="default: 200")
    soak.add_argument("--rounds", type=minimum(5), default=500, metavar="N", help="default: 500")
    soak.add_argument("--seed", type=minimum(0), default=0, metavar="SEED", help="default: 0")
    soak.add_argument(
        "--folder", type=Path, metavar="DIR",
        help="where the coordinator's run is kept; new or empty (default: a temporary folder, deleted at the end)",
    )  # fmt: skip
    soak.add_argument("--json", action="store_true", help="print what it has shown as JSON")
    soak.set_defaults(run=run_soak)


def _add_means(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=minimum(1), metavar="N", help="runs at a time, one thread each (default: number of processors)"
    )
    parser.add_argument(
        "--limit-s", type=minimum(1), metavar="S",
        help="start no run that would not be over in S seconds, as far as finished runs tell",
    )  # fmt: skip


def run_run(args: argparse.Namespace) -> int:
    """Runs an experiment; progress goes to standard error.

    Raises:
        ConfigError, PackError, DataError, FetchError: see `profiling.experiments.plan`.
        StoreError: the cache cannot be read or written.
    """
    from profiling.experiments import campaign, plan  # noqa: PLC0415 (a help text needs none of it)
    from profiling.experiments.registry import METHODS  # noqa: PLC0415

    means, screen = _means(args), _screen()
    experiment = plan.load(args.config, METHODS)
    materials, results = _gather(experiment, screen)
    if args.dry_run:
        print(*campaign.forecast(experiment, materials, results, means.workers), sep="\n")
        return 0
    return _tell(campaign.run_campaign(experiment, materials, results, means, screen), screen)


def run_report(args: argparse.Namespace) -> int:
    """Writes a report and prints the paths of its files. Raises as `run_run`, and as `write_report`."""
    from profiling.experiments import campaign, plan  # noqa: PLC0415 (as above)
    from profiling.experiments.registry import METHODS  # noqa: PLC0415
    from profiling.experiments.report.write import write_report  # noqa: PLC0415

    screen = _screen()
    results: dict[str, Result] = {}
    for path in args.configs:
        experiment = plan.load(path, METHODS)
        found, missing = campaign.named_results(experiment, *_gather(experiment, screen))
        results.update((one.run.key, one) for one in found)
        if missing:
            screen.line(f"{missing} runs are missing in this report: `rankfleet experiment run {path}` makes them")
    swept = [result for path in args.sweep for result in _swept(path, screen)]
    sweeps = [word for path in args.sweep for word in ("--sweep", str(path))]
    command = shlex.join(("rankfleet", "experiment", "report", *map(str, args.configs), *sweeps))
    out = args.out or args.configs[0].parent / "report"
    print(*write_report(list(results.values()), out, command, swept), sep="\n")
    return 0


def run_sweep(args: argparse.Namespace) -> int:
    """Runs a sweep and prints its effects; progress goes to standard error. Raises as `run_run`."""
    from profiling.experiments import campaign, effects, sweep  # noqa: PLC0415 (as above)
    from profiling.experiments.registry import METHODS  # noqa: PLC0415

    means, screen = _means(args), _screen()
    config = sweep.load_sweep(args.config, METHODS)
    outcome, trials = campaign.run_sweep(config, *_gather(config.experiment, screen), means, screen)
    found = effects.find_effects(config, trials, outcome.results)
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    print(*effects.table(found), sep="\n", file=sys.stderr if args.json else sys.stdout)
    return _tell(outcome, screen)


def run_soak(args: argparse.Namespace) -> int:
    """Runs a soak; progress goes to standard error.

    Raises:
        ConfigError: the folder holds something already.
        StoreError: the folder cannot be written.
    """
    from profiling.soak import report  # noqa: PLC0415 (as above)
    from profiling.soak.progress import Progress  # noqa: PLC0415
    from profiling.soak.run import run  # noqa: PLC0415
    from profiling.soak.settings import Settings  # noqa: PLC0415

    settings = Settings(args.devices, args.rounds, args.seed)
    with _folder(args.folder) as folder:
        outcome = run(settings, folder, Progress(_screen(), settings.rounds))
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n")
    print(*report.lines(outcome), sep="\n", file=sys.stderr if args.json else sys.stdout)
    return 0 if outcome.held else 1


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """`wanted`, which is new or empty, or a folder that is deleted in the end."""
    if wanted is None:
        with tempfile.TemporaryDirectory(prefix="rankfleet-soak-") as folder:
            yield Path(folder)
        return
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        held = next(wanted.iterdir(), None)
    except OSError as error:
        raise StoreError(f"--folder {wanted} cannot be used ({error.strerror}): choose another") from error
    if held is not None:
        raise ConfigError(f"--folder {wanted} is to be new or empty, it holds {held.name}: choose another")
    yield wanted


def _gather(experiment: Experiment, screen: Screen) -> tuple[Materials, dict[str, Result]]:
    """What the runs of `experiment` are made from, and the results in its cache."""
    from profiling.experiments import cache, plan  # noqa: PLC0415 (as above)
    from profiling.experiments.data import dataset_sha256  # noqa: PLC0415

    return plan.read_materials(experiment, dataset_sha256), cache.load_all(experiment.cache, screen.line)


def _swept(path: Path, screen: Screen) -> list[Result]:
    """The results of the sweep in `path`, as far as there are any."""
    from profiling.experiments import campaign, sweep  # noqa: PLC0415 (as above)
    from profiling.experiments.registry import METHODS  # noqa: PLC0415
    from profiling.experiments.runner import Outcome  # noqa: PLC0415

    config = sweep.load_sweep(path, METHODS)
    materials, results = _gather(config.experiment, screen)
    trials = campaign.sweep_trials(config, materials, Outcome(results))
    return [results[one.job.run.key] for one in trials if one.job.run.key in results]


def _means(args: argparse.Namespace) -> Means:
    from profiling.experiments.runner import Means  # noqa: PLC0415 (as above)

    end_s = math.inf if args.limit_s is None else time.monotonic() + args.limit_s
    return Means(args.jobs or len(os.sched_getaffinity(0)), end_s)


def _screen() -> Screen:
    from profiling.experiments.progress import Screen  # noqa: PLC0415 (as above)

    return Screen(sys.stderr)


def _tell(outcome: Outcome, screen: Screen) -> int:
    """What a person should know at the end; the exit status."""
    if outcome.failed:
        screen.line(f"{len(outcome.failed)} runs failed, the same command tries them again:")
        for reason in outcome.failed.values():
            screen.line(f"  {reason}")
    if outcome.left:
        screen.line(f"{len(outcome.left)} runs did not fit into the time, the same command goes on with them")
    return 1 if outcome.failed else 0
