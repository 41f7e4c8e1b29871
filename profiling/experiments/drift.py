"""Client drift: how far the clients' changes are from their mean, as functions and not as parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_agent.wire.ranks import Layout, Rows

from .method import Float32


def products(layout: Layout, rows: Rows) -> dict[str, Float32]:
    """`B diag(E) A`, `(d_out, d_in)`, of every module in which a rank adds something; `rows` are full tables."""
    found = {}
    for module in layout.modules:
        table = rows[module.name]
        a, e, b = table[:, : module.d_in], table[:, module.d_in], table[:, module.d_in + 1 :]
        adds = np.any(a, axis=1) & (e != 0) & np.any(b, axis=1)
        if adds.any():
            found[module.name] = b[adds].T @ (a[adds] * e[adds, None])
    return found


def client_drift(layout: Layout, clients: Sequence[tuple[Rows, Rows, float]]) -> float | None:
    """The root mean square distance of the clients' changes of `B diag(E) A` from their weighted mean, relative to
    that mean's length (Karimireddy et al., arXiv 1910.06378, definition 1 measures the same of gradients).

    `clients` are the full tables of each before and after its training, and its weight. None where the mean is zero.
    """
    changes = [
        (_difference(products(layout, after), products(layout, before)), weight) for before, after, weight in clients
    ]
    total = sum(weight for _, weight in changes)
    mean: dict[str, Float32] = {}
    for change, weight in changes:
        for name, one in change.items():
            mean[name] = mean.get(name, np.float32(0)) + one * np.float32(weight / total)
    length = _square(mean)
    if length == 0:
        return None
    apart = sum(weight / total * _square(_difference(change, mean)) for change, weight in changes)
    return math.sqrt(apart / length)


def _difference(one: dict[str, Float32], other: dict[str, Float32]) -> dict[str, Float32]:
    zero = np.zeros((1, 1), np.float32)
    return {name: one.get(name, zero) - other.get(name, zero) for name in {**one, **other}}


def _square(products_: dict[str, Float32]) -> float:
    return math.fsum(float(np.vdot(one, one)) for one in products_.values())
