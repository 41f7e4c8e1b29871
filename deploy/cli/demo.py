"""`rankfleet demo`: the main job, end to end, on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import msgspec

from deploy.cli.options import minimum

_ABOUT = """\
Fine-tunes one model across imitated boards of different sizes on this machine: a coordinator with its own MQTT broker
and one agent process a device, each holding only its own data. Fetches the default model and data first. Shows every
round, then compares with each device training alone, writes OUT/summary.json, and exports the merged model.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("demo", help="the main job, end to end, on this machine", description=_ABOUT)
    parser.add_argument(
        "--data", default="excavators", metavar="DATA",
        help="excavators, 20newsgroups, or a folder with train.jsonl[.gz] and test.jsonl[.gz] (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--model", default="minilm-l6", metavar="MODEL",
        help="minilm-l6, or a model folder in Hugging Face layout (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="output folder (default: %(default)s)")
    parser.add_argument("--rounds", type=minimum(1), help="rounds to run (default: what suits the data)")
    parser.add_argument("--devices", type=minimum(1), default=5, help="imitated boards (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random draw (default: %(default)s)")
    parser.add_argument("--split", choices=("client", "dirichlet"), help="default: by client where the data names them")
    parser.add_argument("--alpha", type=float, default=0.1, help="of the Dirichlet split (default: %(default)s)")
    parser.add_argument(
        "--capabilities", type=Path, metavar="FILE", help="replay the capabilities recorded by an earlier run"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where fetched files and packs are kept")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON; progress to standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the demo. Raises as `deploy.demo.run.run`."""
    from deploy.demo.run import run as run_demo  # noqa: PLC0415 (a help text needs none of it)
    from deploy.demo.settings import Options  # noqa: PLC0415
    from deploy.fetch.fetch import cache_folder  # noqa: PLC0415

    options = Options(
        data=args.data,
        model=args.model,
        out=args.out,
        rounds=args.rounds,
        devices=args.devices,
        seed=args.seed,
        split=args.split,
        alpha=args.alpha,
        capabilities=args.capabilities,
        cache=args.cache or cache_folder(),
    )
    stream = sys.stderr if args.json else sys.stdout
    summary = run_demo(options, lambda line: print(line, file=stream, flush=True))
    if args.json:
        print(json.dumps(msgspec.to_builtins(summary), indent=2))
    return 0
