"""One training step of this project's engine: the engine and the optimizer that an agent's trainer uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch
from edge_agent.optimizer import AdamW, Rates
from edge_agent.selection import trained_positions
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import Layout, Mask, compact
from edge_agent.wire.state import seed_state

from .batch import random_batch
from .spec import CLASSES, OnnxSpec

RATES = Rates(a=1e-4, e=1e-4, b=1e-4, head=1e-4, weight_decay=0.0, epsilon=1e-8)
SCALE = 2.0


def make_onnx_step(spec: OnnxSpec) -> Callable[[], float]:
    """The step.

    Raises:
        PackError: a pack that cannot be read.
    """
    pack_dir, work = Path(spec.pack_dir), spec.work
    manifest = load_manifest(pack_dir)
    layout = module_layout(manifest, work.rank, CLASSES)
    engine = BlockwiseEngine(pack_dir, layout, threads=work.threads, scale=SCALE, products=spec.products)
    state, mask = seed_state(layout, work.seed), living(layout, spec.ranks)
    rows = compact(layout, state.rows, mask)
    optimizer = AdamW(layout, trained_positions(layout, mask, mask), RATES)
    ids, labels = random_batch(work, manifest.vocabulary)
    batch = Batch(ids, np.ones_like(ids), labels)

    def step() -> float:
        gradients = engine.step(batch, rows, lowest_block=0, micro_batch=spec.micro_batch, kept_blocks=spec.kept_blocks)
        optimizer.step(rows, gradients.rows)
        return gradients.loss

    return step


def living(layout: Layout, ranks: tuple[int, ...]) -> Mask:
    """The mask in which the first `ranks` slots of each module live."""
    return np.arange(layout.slots)[None, :] < np.array(ranks)[:, None]
