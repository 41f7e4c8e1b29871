"""`rankfleet predict`: what a run's model says of texts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.predict import Predictions

_ABOUT = """\
Classifies texts. RUN is a folder with a merged model in merged/model.onnx (a demo's, or a coordinator's run_dir after
`rankfleet export RUN RUN/merged/model.onnx`): then the gateway answers. Or it is an agent's state_dir: then that
agent's own engine answers, from the model that it keeps. Neither needs torch.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("predict", help="classify texts with a run's model", description=_ABOUT)
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of a run, or an agent's state_dir")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads standard input, one text a line")
    parser.add_argument("--agent", metavar="NAME", help="let this agent of a demo answer instead of the gateway")
    parser.add_argument("--top", type=_count, default=3, metavar="N", help="classes to show for a text (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints predictions. Raises as `deploy.predict.predict`."""
    from deploy.predict import predict  # noqa: PLC0415 (imports onnxruntime)

    texts = [line for text in args.texts for line in (_standard_input() if text == "-" else [text])]
    predictions = predict(args.run_dir, texts, agent=args.agent)
    print(_json(texts, predictions, args.top) if args.json else _lines(texts, predictions, args.top))
    return 0


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {count}")
    return count


def _standard_input() -> list[str]:
    return [line.rstrip("\n") for line in sys.stdin]


def _lines(texts: Sequence[str], predictions: Predictions, top: int) -> str:
    lines = []
    for text, (best, *others) in zip(texts, predictions.answers, strict=True):
        then = ", ".join(f"{guess.label} {guess.probability:.3f}" for guess in others[: top - 1])
        lines += [text, f"    {best.label}  {best.probability:.3f}" + (f"   then {then}" if then else "")]
    return "\n".join([*lines, f"answered by {predictions.by}"])


def _json(texts: Sequence[str], predictions: Predictions, top: int) -> str:
    answers = [
        {"text": text, "label": answer[0].label, "top": [guess._asdict() for guess in answer[:top]]}
        for text, answer in zip(texts, predictions.answers, strict=True)
    ]
    return json.dumps({"answered_by": predictions.by, "answers": answers}, indent=2, ensure_ascii=False)
