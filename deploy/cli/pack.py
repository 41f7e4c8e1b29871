"""`rankfleet pack`: builds and checks model packs."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

_BUILD = """\
Builds a model pack from a model folder in Hugging Face layout (config.json, model.safetensors, tokenizer.json). Needs
torch and transformers: `pip install 'rankfleet[pack]'`. The boards need neither.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("pack", help="build and check model packs", description="Model packs.")
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
    for one in (build, verify):
        one.add_argument("--json", action="store_true", help="print the manifest as JSON")


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


def _show(args: argparse.Namespace, manifest: msgspec.Struct, folder: Path) -> int:
    from edge_agent.wire.pack import Manifest  # noqa: PLC0415

    assert isinstance(manifest, Manifest)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(manifest), indent=2).decode())
        return 0
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    print(f"{folder}: {manifest.model} ({manifest.architecture}), {manifest.blocks} blocks of {manifest.d_model}")
    print(f"  {size_bytes / 1e6:.1f} MB with {manifest.weights} weights, {len(manifest.modules)} modules to adapt")
    print(f"  mapped working set {manifest.mapped_working_set_bytes / 1e6:.1f} MB")
    print(f"  one rank on every module costs {manifest.bytes_per_rank / 1e6:.2f} MB in training")
    return 0
