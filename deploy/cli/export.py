"""`rankfleet export`: the merged model of a run as one ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.wire.errors import ConfigError

_ABOUT = """\
Writes the model of a run's last closed round as one float32 ONNX file, the adapters merged into its weights, and the
tokenizer beside it. ONNX Runtime runs it without rankfleet: input_ids and attention_mask (int64, batch x tokens) to
logits (batch x classes); the classes are in the file's metadata. Works while the run goes on. Needs the package onnx:
`pip install 'rankfleet[pack]'`.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("export", help="write the merged model as one ONNX file", description=_ABOUT)
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of a demo, or a coordinator's run_dir")
    parser.add_argument("out", type=Path, metavar="OUT.onnx", help="file to write")
    parser.add_argument("--pack", type=Path, metavar="PACK", help="where the run's model pack is now, if it was moved")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exports a run's model. Raises as `deploy.export.export_run`, and ConfigError where onnx is not installed."""
    try:
        from deploy.export import export_run  # noqa: PLC0415 (imports onnx)
    except ModuleNotFoundError as error:
        raise ConfigError(f"export needs {error.name}: pip install 'rankfleet[pack]'") from error
    from deploy.progress import megabytes  # noqa: PLC0415

    done = export_run(args.run_dir, args.out, pack_dir=args.pack)
    print(
        f"{args.out}: {done.model} after {done.version} rounds, {megabytes(done.size_bytes)}; tokenizer.json beside it"
    )
    return 0
