"""HetLoRA: clients of different ranks, which cut their own; the server pads with zeros and weighs by Frobenius norm.

Cho et al., "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models" (arXiv 2401.06432):

- distribution by truncation: client `k` takes the first `r_k` slots of every module;
- rank self-pruning: its loss has the term `penalty * ||B[:, q:]|| * ||A[q:, :]||` of every module, `q = decay * r_k`;
  where training makes these tails' norm smaller than it was, the client drops them and goes on with rank `q`;
- sparsity-weighted aggregation: with zeros in the slots that a client lacks, the mean of `A` and `B` is weighted by the
  norm of its product `B_k A_k`, over all modules together.

The rows that a client drops are still in the update that makes it drop them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from edge_agent.trainer import Adjust
from edge_agent.wire.ranks import Layout, Rows, compact
from edge_agent.wire.state import ModelState

from ..method import Client, Float32, Model, Setup, Task, Upload
from .averaging import Averaging
from .factors import from_rows, rebased, trained_rows

Ranks = Mapping[int, int]
"""The rank of every client that has pruned itself, by its number."""


@dataclass(frozen=True)
class HetLora(Averaging):
    """`decay` and `penalty` are the paper's gamma and lambda. At 0.99, up to 100 ranks are dropped one at a time."""

    decay: float = 0.99
    penalty: float = 0.01

    def start(self, setup: Setup) -> Model:
        """As LoRA; no client has pruned itself."""
        return replace(super().start(setup), memory={})

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """The first slots of every module, as many as the client's rank; it holds no others."""
        rank = _rank(setup, model, client)
        state = model.fleet.state
        mask = state.mask & (np.arange(setup.layout.slots) < rank)
        adjust = tail_penalty(setup.layout, self._kept(rank), self.penalty)
        return Task(mask, self.parts(number), adjust=adjust, state=replace(state, mask=mask))

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The sparsity-weighted mean of the padded factors, and every client's rank after its self-pruning."""
        state, ranks, learned = model.fleet.state, dict(cast(Ranks, model.memory)), []
        for upload in uploads:
            rows = trained_rows(state, upload.update, self.parts(number))
            held = compact(state.layout, state.rows, upload.update.changes.ranks)
            rank = _rank(setup, model, upload.client)
            kept = self._kept(rank)
            if tail_norm(state.layout, rows, kept) < tail_norm(state.layout, held, kept):
                ranks[upload.client.number] = kept
                rows = {name: table[:kept] for name, table in rows.items()}
            learned.append(rows)
        mean = padded_mean(state, learned, sparsity_weights(state.layout, learned))
        return replace(rebased(setup, model, uploads, mean, model.fleet.residual), memory=ranks)

    def _kept(self, rank: int) -> int:
        """What is left of a rank that is pruned once; at least one."""
        return max(1, math.floor(self.decay * rank))


def tail_penalty(layout: Layout, kept: int, penalty: float) -> Adjust:
    """Adds the gradient of `penalty * ||B[:, kept:]|| * ||A[kept:, :]||` of every module."""

    def adjust(rows: Rows, gradients: Rows) -> Rows:
        changed = dict(gradients)
        for module in layout.modules:
            if module.name in gradients and len(rows[module.name]) > kept:
                table = gradients[module.name].copy()
                table[kept:] += np.float32(penalty) * _slope(rows[module.name][kept:], module.d_in)
                changed[module.name] = table
        return changed

    return adjust


def tail_norm(layout: Layout, rows: Rows, kept: int) -> float:
    """The sum of `||B[:, kept:]|| * ||A[kept:, :]||` over the modules that `rows` has."""
    tails = [(rows[module.name][kept:], module.d_in) for module in layout.modules if module.name in rows]
    return math.fsum(float(np.linalg.norm(t[:, :d_in]) * np.linalg.norm(t[:, d_in + 1 :])) for t, d_in in tails)


def sparsity_weights(layout: Layout, learned: Sequence[Rows]) -> list[float]:
    """Every client's share in the Frobenius norms of the products; equal shares where all are zero."""
    norms = [_product_norm(layout, rows) for rows in learned]
    total = math.fsum(norms)
    return [norm / total if total > 0 else 1 / len(norms) for norm in norms]


def padded_mean(state: ModelState, learned: Sequence[Rows], weights: Sequence[float]) -> Rows:
    """Full tables of all modules: the weighted mean of the clients' rows, with zeros for the slots that they lack.

    `learned` are rows of the first living slots of every module. `E` is one where a rank lives.
    """
    mean = {}
    for module, slots in state.layout.living(state.mask):
        table = np.zeros((state.layout.slots, module.width))
        for rows, weight in zip(learned, weights, strict=True):
            own = rows[module.name]
            table[slots[: len(own)]] += weight * own
        table[slots, module.d_in] = 1
        mean[module.name] = table.astype(np.float32)
    return mean


def _rank(setup: Setup, model: Model, client: Client) -> int:
    """Ranks of every module; as many as the client has room for until it prunes itself, at least one."""
    room = max(1, math.floor(client.rank_share * setup.layout.slots))
    return cast(Ranks, model.memory).get(client.number, room)


def _product_norm(layout: Layout, rows: Rows) -> float:
    return math.hypot(*(from_rows(module, rows[module.name]).norm for module in layout.modules))


def _slope(tail: Float32, d_in: int) -> Float32:
    """The gradient of `||B|| * ||A||` at the rows `tail`; zero where one of them is zero, which is its minimum."""
    a, b = tail[:, :d_in], tail[:, d_in + 1 :]
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    slope = np.zeros_like(tail)
    if length_a > 0 and length_b > 0:
        slope[:, :d_in] = a * (length_b / length_a)
        slope[:, d_in + 1 :] = b * (length_a / length_b)
    return slope
