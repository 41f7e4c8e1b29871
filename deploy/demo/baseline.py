"""What the fleet is compared with: models evaluated on the common test set, and devices that train alone.

Run as `python -m deploy.demo.baseline` with a job as JSON on standard input, so that its memory is given back.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from edge_agent.data import read_examples, split_holdout
from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.examples import SPLIT_SEED, read_local, tokenise
from edge_agent.jobs import trainer_environment
from edge_agent.reading import Reading
from edge_agent.tokenise import Tokeniser
from edge_agent.trainer import Work, evaluate, train
from edge_agent.watch import Footing
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import RankfleetError
from edge_agent.wire.pack import TOKENIZER, load_manifest, module_layout
from edge_agent.wire.state import ModelState

MICRO_BATCH = 8


class Alone(msgspec.Struct, frozen=True):
    """Train alone: a device's data, its hold-out share as in the fleet, and as many steps as it did there."""

    device: str
    data: str
    holdout_share: float
    steps: int


class Job(msgspec.Struct, frozen=True):
    """Evaluate a model on the test set: `state` (encoded; None is the seed state), trained alone first if asked."""

    pack: str
    classes: tuple[str, ...]
    slots: int
    seed: int
    training: m.Training
    test: str
    threads: int
    state: bytes | None = None
    alone: Alone | None = None


def accuracy(job: Job) -> float:
    """Runs `job` in a process of its own; the share of the test set that the model gets right.

    Raises:
        RankfleetError: the process failed; quotes what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo.baseline"],
        input=msgspec.json.encode(job),
        capture_output=True,
        check=False,
        env=trainer_environment(job.threads),
    )
    if done.returncode:
        raise RankfleetError(f"an evaluation failed: {done.stderr.decode(errors='replace').strip()}")
    return float(done.stdout)


def run(job: Job) -> float:
    """Does `job` in this process."""
    pack = Path(job.pack)
    manifest = load_manifest(pack)
    layout = module_layout(manifest, job.slots, len(job.classes))
    engine = BlockwiseEngine(pack, layout, threads=job.threads, scale=job.training.scale)
    tokeniser = Tokeniser(pack / TOKENIZER, manifest.pad_token_id, min(job.training.max_tokens, manifest.max_tokens))
    state = states.seed_state(layout, job.seed) if job.state is None else states.from_bytes(job.state, layout)
    if job.alone is not None:
        state = _train_alone(engine, state, tokeniser, job, job.alone)
    test = tokenise(read_examples(Path(job.test), job.classes), tokeniser, job.classes)
    score = evaluate(engine, state, Reading(test, tokeniser, job.training.batch_size, MICRO_BATCH))
    return score.correct / score.total


def _train_alone(
    engine: BlockwiseEngine, state: ModelState, tokeniser: Tokeniser, job: Job, alone: Alone
) -> ModelState:
    """All ranks, all blocks, one optimizer from the first step to the last; no exchange, no pruning."""
    known = read_local(Path(alone.data), job.classes)
    examples, _ = split_holdout(known, share=alone.holdout_share, seed=SPLIT_SEED)
    training = msgspec.structs.replace(job.training, local_steps=alone.steps)
    tokens = tokenise(examples, tokeniser, job.classes)
    work = Work(state.mask, tokens, tokeniser, training, job.seed, (alone.device, "alone"))
    trained = train(engine, state, work, Footing(MICRO_BATCH, 0), None, lambda *_: None)
    return replace(state, rows=trained.rows)


if __name__ == "__main__":
    sys.stdout.write(str(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))))
