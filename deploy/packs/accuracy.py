"""What a pack costs in accuracy: its gradients and short trainings, against the same model in float32.

Everything runs in this process, as on a device (`edge_agent.trainer`), with all ranks of all blocks and the head, the
settings that a fleet has unless told otherwise, and no exchange with others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from coordinator.config import RankSettings, TrainingSettings
from deploy.datasets import Dataset, sample
from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Engine
from edge_agent.examples import Tokens, make_batch, shuffled, tokenise
from edge_agent.reading import Reading
from edge_agent.tokenise import Tokeniser
from edge_agent.trainer import Work, evaluate, train
from edge_agent.watch import Footing
from edge_agent.wire import messages as m
from edge_agent.wire.errors import ConfigError, EngineError, PackError
from edge_agent.wire.pack import (
    TOKENIZER,
    AccuracyEntry,
    CosineEntry,
    Manifest,
    Products,
    load_manifest,
    module_layout,
    verify,
)
from edge_agent.wire.ranks import HEAD, Layout, Rows, compact
from edge_agent.wire.state import ModelState, seed_state

from .build import build_pack, write_manifest
from .source import source_sha256

Say = Callable[[str], None]
GRADIENT_BATCHES = 4
"""On so many batches gradients are compared, for every seed, before and after training."""


@dataclass(frozen=True)
class Options:
    """How much to measure. Seeds are those from 0 on; `test_limit` bounds the test examples, 0 takes all."""

    steps: int
    seeds: int
    batch_size: int
    micro_batch: int
    max_tokens: int
    test_limit: int
    threads: int


def measure_pack(pack_dir: Path, model_dir: Path, dataset: Dataset, options: Options, say: Say) -> Manifest:
    """Measures the pack in `pack_dir`, built from `model_dir`, and writes the result into its manifest.

    Entries of other data sets, and of another micro-batch, stay. The manifest's sha256 is what a fleet knows a pack by,
    so afterwards this is another pack to it, though its tensors are the same.

    Raises:
        PackError: the pack is altered, was built from something else, or changed while it was measured.
        ConfigError: the pack cannot hold texts of so many tokens.
    """
    manifest = verify(pack_dir)
    _check(pack_dir, manifest, model_dir, options)
    with _reference(pack_dir, manifest, model_dir, say) as reference:
        entries = compare(reference, pack_dir, dataset, options, say)
    if load_manifest(pack_dir) != manifest:
        raise PackError(f"{pack_dir} was replaced while it was measured: nothing was written; measure it again")
    kept = [one for one in manifest.accuracy if (one.dataset, one.micro_batch) != (dataset.name, options.micro_batch)]
    measured = msgspec.structs.replace(manifest, accuracy=(*kept, *entries))
    write_manifest(pack_dir, measured)
    return measured


def compare(reference: Path, pack_dir: Path, dataset: Dataset, options: Options, say: Say) -> tuple[AccuracyEntry, ...]:
    """The pack in `pack_dir` with each kind of products that it allows, against the float32 pack in `reference`."""
    task = _task(pack_dir, dataset, options)
    exact = _engine(reference, task, options, "float32")
    variants = {products: _engine(pack_dir, task, options, products) for products in _products(load_manifest(pack_dir))}
    seeds = []
    for seed in range(options.seeds):
        seeds.append(_compare_seed(task, exact, variants, seed))
        say(f"seed {seed}: accuracy {_told(seeds[-1])}")
    return tuple(_entry(task, dataset, options, products, seeds) for products in variants)


def cosine(one: Rows, other: Rows) -> float:
    """The cosine of the angle between all ranks' gradients taken together, the head's left out.

    Raises:
        EngineError: a gradient of zero, which has no direction.
    """
    a, b = _ranks(one), _ranks(other)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not norms:
        raise EngineError("the gradient of every rank is zero, expected some direction: is the model degenerate?")
    return min(1.0, max(-1.0, float(a @ b) / norms))  # rounding may lead beyond


@dataclass(frozen=True)
class _Task:
    """What all variants do alike."""

    layout: Layout
    train: Tokens
    test: Tokens
    tokeniser: Tokeniser
    training: m.Training
    micro_batch: int


@dataclass(frozen=True)
class _Seed:
    """The outcome of one seed, by products; `exact` is the accuracy of float32."""

    at_start: Mapping[Products, list[float]]
    after_training: Mapping[Products, list[float]]
    accuracies: Mapping[Products, float]
    exact: float


def _check(pack_dir: Path, manifest: Manifest, model_dir: Path, options: Options) -> None:
    if source_sha256(model_dir, manifest.weights) != manifest.source_sha256:
        raise PackError(
            f"{pack_dir} was not built from {model_dir} by this version of torch: name the folder that it was built "
            "from, or build it again"
        )
    if options.max_tokens > manifest.max_tokens:
        raise ConfigError(f"{manifest.model} takes {manifest.max_tokens} tokens at most, got {options.max_tokens}")


@contextmanager
def _reference(pack_dir: Path, manifest: Manifest, model_dir: Path, say: Say) -> Iterator[Path]:
    """The pack with float32 weights: a temporary one, unless it is the one to measure."""
    if manifest.weights == "fp32":
        yield pack_dir
        return
    with tempfile.TemporaryDirectory(prefix="rankfleet-measure-") as work:
        say(f"building {manifest.model} with fp32 weights to compare with")
        build_pack(model_dir, Path(work) / "fp32", weights="fp32")
        yield Path(work) / "fp32"


def _task(pack_dir: Path, dataset: Dataset, options: Options) -> _Task:
    manifest = load_manifest(pack_dir)
    tokeniser = Tokeniser(pack_dir / TOKENIZER, manifest.pad_token_id, options.max_tokens)
    settings = TrainingSettings(batch_size=options.batch_size, local_steps=options.steps, max_tokens=options.max_tokens)
    return _Task(
        layout=module_layout(manifest, RankSettings().initial, len(dataset.classes)),
        train=tokenise(dataset.train, tokeniser, dataset.classes),
        test=tokenise(sample(dataset.test, options.test_limit), tokeniser, dataset.classes),
        tokeniser=tokeniser,
        training=m.Training(**msgspec.structs.asdict(settings)),
        micro_batch=options.micro_batch,
    )


def _products(manifest: Manifest) -> tuple[Products, ...]:
    return ("float32", "int8") if manifest.weights == "int8" else ("float32",)


def _engine(pack_dir: Path, task: _Task, options: Options, products: Products) -> Engine:
    return BlockwiseEngine(pack_dir, task.layout, threads=options.threads, scale=task.training.scale, products=products)


def _compare_seed(task: _Task, exact: Engine, variants: Mapping[Products, Engine], seed: int) -> _Seed:
    seeded = seed_state(task.layout, seed)
    trained = _train(task, exact, seeded, seed)
    return _Seed(
        at_start=_cosines(task, exact, variants, seeded, seed),
        after_training=_cosines(task, exact, variants, trained, seed),
        accuracies={name: _accuracy(task, one, _train(task, one, seeded, seed)) for name, one in variants.items()},
        exact=_accuracy(task, exact, trained),
    )


def _cosines(
    task: _Task, exact: Engine, variants: Mapping[Products, Engine], state: ModelState, seed: int
) -> dict[Products, list[float]]:
    """Of the gradients at `state`, batch by batch."""
    rows = compact(state.layout, state.rows, state.mask)
    found: dict[Products, list[float]] = {name: [] for name in variants}
    for chosen in shuffled(len(task.train), task.training.batch_size, GRADIENT_BATCHES, seed, "gradients"):
        expected = _gradients(task, exact, rows, chosen)
        for name, engine in variants.items():
            found[name].append(cosine(expected, _gradients(task, engine, rows, chosen)))
    return found


def _gradients(task: _Task, engine: Engine, rows: Rows, chosen: list[int]) -> Rows:
    batch = make_batch(task.train, chosen, task.tokeniser)
    return engine.step(batch, rows, lowest_block=0, micro_batch=task.micro_batch).rows


def _train(task: _Task, engine: Engine, state: ModelState, seed: int) -> ModelState:
    """All ranks and blocks, without a limit to memory: as fast as can be, and nothing steps down."""
    work = Work(state.mask, task.train, task.tokeniser, task.training, seed, ("accuracy",))
    footing = Footing(task.micro_batch, lowest_block=0, kept_blocks=task.layout.blocks)
    trained = train(engine, state, work, footing, None, lambda *_: None)
    engine.give_back()
    return replace(state, rows=trained.rows)


def _accuracy(task: _Task, engine: Engine, state: ModelState) -> float:
    score = evaluate(engine, state, Reading(task.test, task.tokeniser, task.training.batch_size, task.micro_batch))
    return score.correct / score.total


def _entry(task: _Task, dataset: Dataset, options: Options, products: Products, seeds: list[_Seed]) -> AccuracyEntry:
    return AccuracyEntry(
        dataset=dataset.name,
        products=products,
        steps=options.steps,
        batch_size=options.batch_size,
        micro_batch=options.micro_batch,
        max_tokens=options.max_tokens,
        test_examples=len(task.test),
        at_start=_spread(value for one in seeds for value in one.at_start[products]),
        after_training=_spread(value for one in seeds for value in one.after_training[products]),
        accuracies=tuple(one.accuracies[products] for one in seeds),
        reference_accuracies=tuple(one.exact for one in seeds),
    )


def _spread(cosines: Iterable[float]) -> CosineEntry:
    values = sorted(cosines)
    return CosineEntry(median(values), values[0])


def _ranks(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """All values of all modules, in double precision for the sums."""
    return np.concatenate([rows[name].ravel() for name in sorted(rows) if name != HEAD]).astype(np.float64)


def _told(seed: _Seed) -> str:
    variants = (f"{value:.3f} with {name} products" for name, value in seed.accuracies.items())
    return f"{', '.join(variants)}, {seed.exact:.3f} of fp32"
