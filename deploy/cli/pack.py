"""`rankfleet pack`: builds, checks and measures model packs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

import msgspec

from deploy.cli.options import minimum

if TYPE_CHECKING:
    from edge_agent.wire.pack import AccuracyEntry, CosineEntry, Manifest

_BUILD = """\
Builds a model pack from a model folder in Hugging Face layout (config.json, model.safetensors, tokenizer.json). Needs
torch and transformers: `pip install 'rankfleet[pack]'`. The boards need neither. A pack that was built from the same
files is kept, with what was measured of it.
"""
_MEASURE = """\
Measures what a pack costs in accuracy: trains it on labelled texts for a while, with each kind of products that it
allows, and the same model with fp32 weights alike; compares gradients and accuracy. Writes the result into the
manifest, by whose sha256 a fleet knows its pack: measure before the fleet starts, for to a fleet it is another pack
afterwards. Takes minutes; half the steps or seeds take half as long. Needs `pip install 'rankfleet[pack]'`.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("pack", help="build, check and measure model packs", description="Model packs.")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    build = commands.add_parser("build", help="build a pack", description=_BUILD)
    build.add_argument("model", type=Path, metavar="MODEL", help="folder in Hugging Face layout")
    build.add_argument("out", type=Path, metavar="PACK", help="folder to make")
    build.add_argument(
        "--weights", choices=("int8", "fp16", "fp32"), default="int8", help="type of the frozen weights (%(default)s)"
    )
    build.set_defaults(run=run_build)
    verify = commands.add_parser("verify", help="check every file of a pack against its manifest")
    verify.add_argument("pack", type=Path, metavar="PACK")
    verify.set_defaults(run=run_verify)
    for one in (build, verify, _add_measure(commands)):
        one.add_argument("--json", action="store_true", help="print the manifest as JSON")


def _add_measure(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    measure = commands.add_parser("measure", help="measure what a pack costs in accuracy", description=_MEASURE)
    measure.add_argument("pack", type=Path, metavar="PACK")
    measure.add_argument(
        "--model", required=True, metavar="MODEL", help="what the pack was built from: a folder, or a name to fetch"
    )
    measure.add_argument(
        "--data", required=True, metavar="DATA",
        help="excavators, 20newsgroups, or a folder with train.jsonl[.gz] and test.jsonl[.gz]",
    )  # fmt: skip
    for name, least, default, what in (
        ("steps", 1, 60, "optimizer steps of a training"),
        ("seeds", 1, 3, "trainings of each kind"),
        ("batch", 1, 16, "texts a step"),
        ("micro-batch", 1, 8, "texts that pass a block together; it matters to products of integers"),
        ("tokens", 8, 64, "tokens of a text at most"),
        ("test", 0, 1000, "texts of the test set to evaluate on, 0 for all"),
        ("threads", 1, 2, "threads that compute"),
    ):
        measure.add_argument(
            f"--{name}", type=minimum(least), default=default, metavar="N", help=f"{what} (default: %(default)s)"
        )
    measure.add_argument("--cache", type=Path, metavar="DIR", help="where fetched files are kept")
    measure.set_defaults(run=run_measure)
    return measure


def run_build(args: argparse.Namespace) -> int:
    """Builds a pack. Raises as `deploy.packs.build.build_pack`."""
    from deploy.packs.build import build_pack  # noqa: PLC0415 (imports torch)

    return _show(args, build_pack(args.model, args.out, weights=args.weights), args.out)


def run_verify(args: argparse.Namespace) -> int:
    """Checks a pack.

    Raises:
        PackError: names the first file that is missing or altered.
    """
    from edge_agent.wire.pack import verify  # noqa: PLC0415

    return _show(args, verify(args.pack), args.pack)


def run_measure(args: argparse.Namespace) -> int:
    """Measures a pack; progress goes to standard error.

    Raises:
        FetchError: a model or data set by name that was not fetched.
        DataError: data that cannot be read.
        RankfleetError: as `deploy.packs.accuracy.measure_pack`.
    """
    from deploy.datasets import load_dataset  # noqa: PLC0415 (a help text needs none of it)
    from deploy.fetch.catalogue import CATALOGUE  # noqa: PLC0415
    from deploy.fetch.fetch import cache_folder, require  # noqa: PLC0415
    from deploy.packs.accuracy import Options, measure_pack  # noqa: PLC0415 (imports torch)

    cache = args.cache or cache_folder()
    model_dir = require(args.model, cache) if args.model in CATALOGUE else Path(args.model)
    options = Options(
        steps=args.steps,
        seeds=args.seeds,
        batch_size=args.batch,
        micro_batch=args.micro_batch,
        max_tokens=args.tokens,
        test_limit=args.test,
        threads=args.threads,
    )
    data = load_dataset(args.data, cache)
    manifest = measure_pack(args.pack, model_dir, data, options, lambda line: print(line, file=sys.stderr, flush=True))
    return _show(args, manifest, args.pack)


def _show(args: argparse.Namespace, manifest: Manifest, folder: Path) -> int:
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(manifest), indent=2).decode())
        return 0
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    print(f"{folder}: {manifest.model} ({manifest.architecture}), {manifest.blocks} blocks of {manifest.d_model}")
    print(f"  {size_bytes / 1e6:.1f} MB with {manifest.weights} weights, {len(manifest.modules)} modules to adapt")
    print(f"  mapped working set {manifest.mapped_working_set_bytes / 1e6:.1f} MB")
    print(f"  one rank on every module costs {manifest.bytes_per_rank / 1e6:.2f} MB in training")
    if not manifest.accuracy:
        print("  accuracy not measured: rankfleet pack measure")
    for entry in manifest.accuracy:
        print(*_accuracy_lines(entry, manifest.weights), sep="\n")
    return 0


def _accuracy_lines(entry: AccuracyEntry, weights: str) -> list[str]:
    """Means and standard deviations over the seeds; the difference is taken seed by seed."""
    pairs = zip(entry.accuracies, entry.reference_accuracies, strict=True)
    return [
        f"  {weights} weights with {entry.products} products on {entry.dataset} ({entry.steps} steps of "
        f"{entry.batch_size} texts of {entry.max_tokens} tokens, micro-batch {entry.micro_batch}, "
        f"{len(entry.accuracies)} seeds, {entry.test_examples} test texts)",
        f"    gradient cosine {_cosine(entry.at_start)} at the start, {_cosine(entry.after_training)} after training",
        f"    accuracy {_percent(entry.accuracies)} %, of fp32 {_percent(entry.reference_accuracies)} %: "
        f"{_percent([one - other for one, other in pairs], '+')} points",
    ]


def _cosine(entry: CosineEntry) -> str:
    return f"{entry.median:.4f} (worst {entry.worst:.4f})"


def _percent(shares: Sequence[float], sign: str = "") -> str:
    spread = f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * mean(shares):{sign}.1f}{spread}"
