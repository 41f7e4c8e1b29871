"""Sums of products `B_k A_k` in factored form, and their way to the clients.

A matrix `M (d_out, d_in)` of low rank is kept as rows `a_i` and `b_i` with `M = sum_i b_i a_i^T`. A weighted sum of
products is the stack of their rows; its best approximation of a lower rank follows from two QR decompositions and the
SVD of a small core, without `M` itself. All in float64, so only what is sent is rounded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coordinator.aggregate import Aggregator, advance
from coordinator.fleet_model import FleetModel
from edge_agent.wire import rowset
from edge_agent.wire.codec import Update
from edge_agent.wire.container import Kind, seal
from edge_agent.wire.quantise import Scheme, dequantise, find_scheme, quantise
from edge_agent.wire.ranks import HEAD, Layout, Module, Rows
from edge_agent.wire.rowset import RowSet
from edge_agent.wire.state import ModelState

from ..method import Float32, Model, Parts, Setup, Upload
from ..views import merge, merge_model, project, project_model

Float64 = npt.NDArray[np.float64]


class Factors(NamedTuple):
    """The matrix `b.T @ a`: `a` is `(n, d_in)`, `b` `(n, d_out)`."""

    a: Float64
    b: Float64

    @property
    def matrix(self) -> Float64:
        """The matrix itself, `(d_out, d_in)`."""
        return self.b.T @ self.a

    @property
    def norm(self) -> float:
        """Frobenius norm of the matrix, from the factors' Gram matrices."""
        square = float(np.vdot(self.a @ self.a.T, self.b @ self.b.T))
        return float(np.sqrt(max(square, 0.0)))


def from_rows(module: Module, rows: Float32) -> Factors:
    """`B diag(E) A` of full rows `[A_i | E_i | B_i]`."""
    wide = rows.astype(np.float64)
    a, e, b = wide[:, : module.d_in], wide[:, module.d_in : module.d_in + 1], wide[:, module.d_in + 1 :]
    return Factors(a, b * e)


def to_rows(factors: Factors) -> Float32:
    """Full rows `[a_i | 1 | b_i]`."""
    ones = np.ones((len(factors.a), 1))
    return np.concatenate((factors.a, ones, factors.b), axis=1).astype(np.float32)


def stack(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """The sum of `parts`, each times its weight; they may have different ranks."""
    a = np.concatenate([part.a for part in parts])
    b = np.concatenate([part.b * weight for part, weight in zip(parts, weights, strict=True)])
    return Factors(a, b)


def truncate(factors: Factors, rank: int) -> Factors:
    """The best approximation of at most `rank` (Eckart and Young, 1936), most important row first.

    Rows of `a` are the right singular vectors; those of `b` the left ones, times the singular values. There are fewer
    than `rank` rows where `factors` has fewer, or the matrix is smaller.
    """
    left, left_core = np.linalg.qr(factors.b.T)
    right, right_core = np.linalg.qr(factors.a.T)
    u, values, vt = np.linalg.svd(left_core @ right_core.T, full_matrices=False)
    return Factors(vt[:rank] @ right.T, (left @ (u[:, :rank] * values[:rank])).T)


def aligned(factors: Factors, previous: Float64) -> Factors:
    """The same matrix with every `a_i` on the side of row `i` of `previous`, so that less changes.

    A singular vector's sign is the library's choice; this also makes the outcome independent of it.
    """
    shared = min(len(factors.a), len(previous))
    signs = np.ones((len(factors.a), 1))
    towards = np.einsum("ij,ij->i", factors.a[:shared], previous[:shared])
    signs[:shared, 0] = np.where(towards < 0, -1.0, 1.0)
    return Factors(factors.a * signs, factors.b * signs)


def weights_of(uploads: Sequence[Upload]) -> list[float]:
    """The share of every client in the round's examples."""
    total = sum(upload.update.examples for upload in uploads)
    return [upload.update.examples / total for upload in uploads]


def trained_rows(state: ModelState, update: Update, parts: Parts) -> Rows:
    """Full rows of the ranks that a client trained, `(trained, width)` a module, as its training left them.

    `state` is what it started from; `parts` are those that its update holds.
    """
    layout, values = state.layout, update.changes.rows()
    moved = project(layout, state.rows, parts)
    trained = list(layout.living(update.changes.ranks))
    for module, slots in trained:
        moved[module.name][slots] += values[module.name]
    full = merge(layout, state.rows, moved, parts)
    return {module.name: full[module.name][slots] for module, slots in trained}


def rebased(setup: Setup, model: Model, uploads: Sequence[Upload], rows: Rows, residual: Rows) -> Model:
    """The model whose ranks are `rows`, full tables of every module, and whose head is the mean of the clients'.

    The broadcast is the change, in the product's codec; `A` and `B` travel. `residual` are full tables of what earlier
    broadcasts lost.
    """
    parts = Parts(e=False)
    fleet = project_model(model.fleet, parts)
    layout, old = fleet.state.layout, fleet.state.rows
    new = project(model.fleet.state.layout, {**rows, HEAD: old[HEAD]}, parts)
    change = {module.name: new[module.name] - old[module.name] for module in layout.modules}
    change[HEAD] = _mean_head(layout, uploads)
    lost = project(model.fleet.state.layout, residual, parts)
    step = advance(fleet.state, change, lost, fleet.state.mask, find_scheme(setup.options.training.quantisation))
    moved = FleetModel(step.state, step.residual, fleet.importance)
    return replace(model, fleet=merge_model(model.fleet, moved, parts), broadcast=(step.delta,))


def only_head(layout: Layout, residual: Rows) -> Rows:
    """`residual` of the head alone: a rank's has no meaning once the ranks have another basis."""
    return {**layout.empty_rows(), HEAD: residual[HEAD].copy()}


class Coarse(NamedTuple):
    """Rows to be sent, `(n, sum(groups))`, with one scale a row and group where the scheme has scales."""

    values: Float32
    groups: tuple[int, ...]


def pack(tables: Mapping[str, Coarse], scheme: Scheme) -> tuple[bytes, dict[str, Float32]]:
    """One object of `tables` that have no codec of their own, and what its receivers will read from it.

    The body is that of a row set, after the number of rows of every table.

    Raises:
        PayloadError: if a value is not finite or too large.
    """
    quantised = {name: quantise(table.values, table.groups, scheme) for name, table in tables.items()}
    counts = b"".join(struct.pack("<I", len(table.values)) for table in tables.values())
    nothing = np.zeros(0, np.bool_)
    body = rowset.write(RowSet(scheme, nothing, nothing, quantised))
    return seal(Kind.DELTA, counts + body), {name: dequantise(table) for name, table in quantised.items()}


def _mean_head(layout: Layout, uploads: Sequence[Upload]) -> Float32:
    aggregator = Aggregator(layout)
    for upload in uploads:
        aggregator.add(upload.update)
    return aggregator.mean()[HEAD]
