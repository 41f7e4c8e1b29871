"""FedEx-LoRA: averages `A` and `B`, and adds what that leaves out of the mean product to the frozen weights.

Singhal, Ponkshe and Vepakomma, "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Foundation
Models" (arXiv 2410.09432): `W0 <- W0 + s * (mean(B_k A_k) - mean(B_k) mean(A_k))`. The residual is sent as
factors, as the paper proposes, or as it is where that is less.

The residual is the weighted sum of `(B_k - mean B)(A_k - mean A)`, a covariance, so `n` clients of rank `r` leave one
of rank `(n - 1) r` at most. A rank that some clients did not train is averaged over those that did, here as in the
means themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Layout, Module, Rows

from ..method import Float32, Model, Setup, Upload
from .averaging import Averaging
from .factors import Coarse, Factors, from_rows, pack, trained_rows, truncate


@dataclass(frozen=True)
class FedExLora(Averaging):
    """Federated averaging whose effective weights are exactly the mean of the clients'."""

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The mean of the factors, and the frozen weights with the residual, in two broadcasts."""
        learned = [trained_rows(model.fleet.state, upload.update, self.parts(number)) for upload in uploads]
        residuals = _residuals(setup.layout, uploads, learned)
        closed = super().close(setup, model, uploads, number)
        return _with_residuals(setup, closed, residuals) if residuals else closed


def _with_residuals(setup: Setup, closed: Model, residuals: Mapping[str, Factors]) -> Model:
    """The model whose frozen weights have the residuals, as its devices will read them from a second broadcast."""
    training, base = setup.options.training, dict(closed.base)
    tables = {name: _cheaper(factors) for name, factors in residuals.items()}
    body, received = pack(tables, find_scheme(training.quantisation))
    for name, rows in received.items():
        added = np.float32(training.scale) * _matrix(rows, tables[name].groups)
        base[name] = base[name] + added if name in base else added
    return replace(closed, base=base, broadcast=(*closed.broadcast, body))


def _residuals(layout: Layout, uploads: Sequence[Upload], learned: Sequence[Rows]) -> dict[str, Factors]:
    """`mean(B_k A_k) - mean(B_k) mean(A_k)` of every module, rank by rank; none where there is nothing left."""
    found = {}
    for index, module in enumerate(layout.modules):
        trained = np.stack([upload.update.changes.ranks[index] for upload in uploads])
        rank = int(np.maximum(trained.sum(axis=0) - 1, 0).sum())
        if rank:
            examples = np.array([upload.update.examples for upload in uploads], np.float64)
            rows = _in_place(module, trained, [one[module.name] for one in learned])
            found[module.name] = truncate(_covariance(trained, examples, rows), rank)
    return found


def _in_place(module: Module, trained: npt.NDArray[np.bool_], learned: Sequence[Float32]) -> Factors:
    """Factors of all clients, `(clients, slots, ...)`, zero where a client did not train a slot."""
    a = np.zeros((*trained.shape, module.d_in))
    b = np.zeros((*trained.shape, module.d_out))
    for client, rows in enumerate(learned):
        a[client, trained[client]], b[client, trained[client]] = from_rows(module, rows)
    return Factors(a, b)


def _covariance(trained: npt.NDArray[np.bool_], examples: npt.NDArray[np.float64], rows: Factors) -> Factors:
    """The sum, over every slot, of its clients' weighted `(b_k - mean b)(a_k - mean a)`."""
    counted = trained * examples[:, None]
    weights = (counted / np.maximum(counted.sum(axis=0), 1))[:, :, None]
    apart_a, apart_b = (part - (weights * part).sum(axis=0) for part in rows)
    return Factors(apart_a[trained], (weights * apart_b)[trained])


def _cheaper(residual: Factors) -> Coarse:
    """The rows to send: factors `[a_i | b_i]`, scaled alike, or the matrix where that has fewer numbers."""
    a, b = residual
    if len(a) * (a.shape[1] + b.shape[1]) >= a.shape[1] * b.shape[1]:
        return Coarse(residual.matrix.astype(np.float32), (a.shape[1],))
    length = np.sqrt(np.linalg.norm(b, axis=1, keepdims=True))
    shared = b / np.where(length > 0, length, 1)
    return Coarse(np.concatenate((a * length, shared), axis=1).astype(np.float32), (a.shape[1], b.shape[1]))


def _matrix(rows: Float32, groups: tuple[int, ...]) -> Float32:
    """The `(d_out, d_in)` that sent rows stand for."""
    if len(groups) == 1:
        return rows
    a, b = np.split(rows, groups[:1], axis=1)
    return b.T @ a
