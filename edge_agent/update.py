"""From a round's training to the update that is sent: change, votes, quantisation, residual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.selection import trained_positions
from edge_agent.wire.class_statistics import statistics_layout
from edge_agent.wire.codec import Update
from edge_agent.wire.quantise import Scheme
from edge_agent.wire.ranks import HEAD, Mask, Rows, keep_top, top_share
from edge_agent.wire.rowset import quantise_rows
from edge_agent.wire.state import ModelState

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """This device's part in a round: what it was told to train and how it is to answer.

    `budget_ranks` is how many ranks are to live in the fleet after the round; `examples` weigh the update.
    """

    round: int
    trained: Mask
    budget_ranks: int
    examples: int
    scheme: Scheme


def make_update(part: Part, before: ModelState, after: Rows, scores: Float64, residual: Rows) -> tuple[Update, Rows]:
    """The update, and the residual to keep once the coordinator has acknowledged it.

    Args:
        part: the device's part in the round.
        before: the state that training started from.
        after: the living rows `(living, width)` of every module and the head, as training left them.
        scores: importance `(modules, slots)`, zero or more.
        residual: full tables; what quantisation lost in earlier rounds.

    A pruned rank has no residual, nothing of it is to be revived; a living rank that was not trained keeps its own.
    """
    layout = before.layout
    living = drop_pruned(before, residual)
    change = _change(before, after, part.trained)
    row_set, left = quantise_rows(layout, change, living, part.trained, part.scheme)
    votes = local_votes(scores, part.trained, part.budget_ranks, int(before.mask.sum()))
    update = Update(part.round, before.version, part.examples, votes, relative(scores), row_set)
    return update, left


def make_statistics(part: Part, before: ModelState, statistics: Rows) -> Update:
    """The update that carries statistics of the classes (see `class_statistics`), of the layout that these have."""
    layout = statistics_layout(before.layout)
    none = np.zeros((0, layout.slots), np.bool_)
    row_set, _ = quantise_rows(layout, statistics, layout.empty_rows(), none, part.scheme)
    return Update(part.round, before.version, part.examples, none, none.astype(np.float32), row_set)


def local_votes(scores: Float64, trained: Mask, budget_ranks: int, living_ranks: int) -> Mask:
    """The best of the trained ranks, as large a share of them as the budget is of all living ranks."""
    return keep_top(scores, trained, top_share(int(trained.sum()), budget_ranks, living_ranks))


def relative(scores: Float64) -> npt.NDArray[np.float32]:
    """Scores as shares of the best, so devices compare: rounded to float16, as they travel."""
    best = scores.max()
    shares = scores / best if best > 0 else scores
    return shares.astype(np.float16).astype(np.float32)


def drop_pruned(state: ModelState, residual: Rows) -> Rows:
    """`residual` with zeros for every pruned rank; a copy."""
    left = {name: table.copy() for name, table in residual.items()}
    for module, pruned in state.layout.living(~state.mask):
        left[module.name][pruned] = 0
    return left


def _change(before: ModelState, after: Rows, trained: Mask) -> Rows:
    """What training changed: the trained rows of every module, and the whole head."""
    layout = before.layout
    positions = trained_positions(layout, before.mask, trained)
    change = {HEAD: after[HEAD] - before.rows[HEAD]}
    for module, slots in layout.living(trained):
        old = before.rows[module.name][slots]
        change[module.name] = after[module.name][positions[module.name]] - old if len(slots) else old
    return change
