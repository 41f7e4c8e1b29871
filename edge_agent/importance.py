"""Importance of the trained ranks, by one of three rules.

- `magnitude`: `|E_i| * norm(A_i) * norm(B_i)`, the Frobenius norm of what the rank adds to its layer.
- `sensitivity`: `|w * dL/dw|`, the loss's first-order change if `w` were dropped. A rank's is that of its `E`, plus
  the means over its `A` and over its `B` (AdaLoRA, arXiv 2303.10512, eq. 8); smoothed over the steps and multiplied
  by its uncertainty (eq. 9 to 12). AdaLoRA smooths every parameter by itself and sums then; here the sum is smoothed,
  which needs two numbers a rank in place of two a parameter.
- `energy`: the Frobenius norm of the change that the rank made in `B diag(E) A` (LoRA-A2, arXiv 2410.22815), from
  inner products, without the dense matrix.

All rows here are those of the trained ranks, `(trained, width)` a module, as `selection.pick` gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_agent.wire.errors import ConfigError
from edge_agent.wire.ranks import Layout, Mask, Module, Rows

Float64 = npt.NDArray[np.float64]
BETA = 0.85  # both smoothing constants of AdaLoRA's experiments


class Scorer(Protocol):
    """Scores ranks from what a round's training shows of them."""

    def observe(self, rows: Rows, gradients: Rows) -> None:
        """Sees the trained rows and their gradients at one step, before the optimizer's update."""

    def tables(self) -> dict[str, Float64]:
        """What it remembers of the steps, by name; changed in place."""

    def scores(self, before: Rows, after: Rows) -> Float64:
        """Scores `(modules, slots)` from the trained rows at the round's start and end; zero if not trained."""


def make_scorer(rule: str, layout: Layout, trained: Mask) -> Scorer:
    """The scorer of `rule` for the `trained` ranks.

    Raises:
        ConfigError: if there is no such rule.
    """
    if rule not in RULES:
        raise ConfigError(f"importance must be one of {', '.join(RULES)}; got {rule!r}")
    return RULES[rule](layout, trained)


@dataclass(frozen=True)
class _AtEnd:
    """A rule that looks at the rows before and after only."""

    layout: Layout
    trained: Mask
    rule: Callable[[Module, Float64, Float64], Float64]

    def observe(self, rows: Rows, gradients: Rows) -> None:
        """Needs nothing of the steps."""

    def tables(self) -> dict[str, Float64]:
        """Nothing."""
        return {}

    def scores(self, before: Rows, after: Rows) -> Float64:
        """Scores by the rule, module by module, in float64."""
        scores = np.zeros(self.trained.shape)
        for index, module in enumerate(self.layout.modules):
            if self.trained[index].any():
                old, new = (rows[module.name].astype(np.float64) for rows in (before, after))
                scores[index, self.trained[index]] = self.rule(module, old, new)
        return scores


class _Sensitivity:
    """AdaLoRA's rule; its state is two numbers a rank."""

    def __init__(self, layout: Layout, trained: Mask) -> None:
        self._layout = layout
        self._trained = trained
        self._smooth: Float64 = np.zeros(trained.shape)
        self._uncertainty: Float64 = np.zeros(trained.shape)

    def observe(self, rows: Rows, gradients: Rows) -> None:
        """One step of eq. 9 and 10."""
        now = np.zeros(self._trained.shape)
        for index, module in enumerate(self._layout.modules):
            if self._trained[index].any():
                product = np.abs(rows[module.name] * gradients[module.name], dtype=np.float64)
                a, e, b = _parts(module, product)
                now[index, self._trained[index]] = e + a.mean(axis=1) + b.mean(axis=1)
        self._smooth *= BETA
        self._smooth += (1 - BETA) * now
        self._uncertainty *= BETA
        self._uncertainty += (1 - BETA) * np.abs(now - self._smooth)

    def tables(self) -> dict[str, Float64]:
        """Both sums of every rank."""
        return {"smooth": self._smooth, "uncertainty": self._uncertainty}

    def scores(self, before: Rows, after: Rows) -> Float64:
        """Eq. 12; the rows do not matter."""
        return self._smooth * self._uncertainty


def _magnitude(module: Module, before: Float64, after: Float64) -> Float64:
    a, e, b = _parts(module, after)
    return np.asarray(np.abs(e) * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), dtype=np.float64)


def _energy(module: Module, before: Float64, after: Float64) -> Float64:
    """`norm(e1 b1 a1' - e0 b0 a0')`, its square expanded: only products of inner products."""
    a0, e0, b0 = _parts(module, before)
    a1, e1, b1 = _parts(module, after)
    square = e1**2 * _inner(b1, b1) * _inner(a1, a1) + e0**2 * _inner(b0, b0) * _inner(a0, a0)
    square -= 2 * e1 * e0 * _inner(b1, b0) * _inner(a1, a0)
    return np.sqrt(np.maximum(square, 0))  # rounding may leave a tiny negative where nothing changed


def _inner(one: Float64, other: Float64) -> Float64:
    return np.asarray(np.einsum("ij,ij->i", one, other), dtype=np.float64)


def _parts(module: Module, rows: Float64) -> tuple[Float64, Float64, Float64]:
    """`A (n, d_in)`, `E (n,)` and `B (n, d_out)` of rows."""
    return rows[:, : module.d_in], rows[:, module.d_in], rows[:, module.d_in + 1 :]


RULES: dict[str, Callable[[Layout, Mask], Scorer]] = {
    "magnitude": lambda layout, trained: _AtEnd(layout, trained, _magnitude),
    "sensitivity": _Sensitivity,
    "energy": lambda layout, trained: _AtEnd(layout, trained, _energy),
}
