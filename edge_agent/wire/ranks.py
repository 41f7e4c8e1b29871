"""Ranks, masks and the table layout that both sides address them by.

A frozen linear layer `W0 (d_out x d_in)` is adapted as `W = W0 + s * B diag(E) A` (FedARA, arXiv 2501.14406).
A *rank* is one triplet `(A[i, :], E[i], B[:, i])`. It is stored as one row `[A_i | E_i | B_i]` of its module's
table, so everything that happens to a rank (average, quantise, score, prune) is an operation on a row. The head is a
table too: one row `[w_c | bias_c]` for each class; its rows are never pruned.

A *slot* is a rank's place in its module; a mask is a boolean array `(modules, slots)`. Identity is kept for life:
slot 5 of a module stays slot 5 while others around it are pruned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .errors import PayloadError

Rows = dict[str, npt.NDArray[np.float32]]
"""Table name -> float32 array `(rows, width)`."""

Mask = npt.NDArray[np.bool_]
"""`(modules, slots)`; true where a rank lives."""

HEAD = "head"


@dataclass(frozen=True)
class Table:
    """One table of rows. `groups` are the widths of the parts of a row that share a quantisation scale."""

    name: str
    rows: int
    groups: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers in one row."""
        return sum(self.groups)


@dataclass(frozen=True)
class Module:
    """One adapted linear layer: `block` counts from the input (0 is the lowest)."""

    name: str
    block: int
    d_in: int
    d_out: int

    @property
    def width(self) -> int:
        """Numbers in one rank of this module."""
        return self.d_in + 1 + self.d_out


@dataclass(frozen=True)
class Layout:
    """The tables of one fleet: `modules` in block order, `slots` ranks each, and a head of `classes` rows."""

    modules: tuple[Module, ...]
    slots: int
    classes: int
    d_model: int

    @cached_property
    def tables(self) -> dict[str, Table]:
        """All tables by name, the modules first, the head last."""
        tables = {m.name: Table(m.name, self.slots, (m.d_in, 1, m.d_out)) for m in self.modules}
        tables[HEAD] = Table(HEAD, self.classes, (self.d_model, 1))
        return tables

    @property
    def blocks(self) -> int:
        """Number of repeated blocks."""
        return 1 + max(m.block for m in self.modules)

    @property
    def ranks(self) -> int:
        """Ranks in all modules together, before any pruning."""
        return len(self.modules) * self.slots

    def full_mask(self) -> Mask:
        """A mask in which every rank lives."""
        return np.ones((len(self.modules), self.slots), dtype=np.bool_)

    def empty_rows(self) -> Rows:
        """Zeros in the shape of every table."""
        return {t.name: np.zeros((t.rows, t.width), dtype=np.float32) for t in self.tables.values()}

    def living(self, mask: Mask) -> Iterator[tuple[Module, npt.NDArray[np.intp]]]:
        """Each module with the slots that live in it (possibly none)."""
        for index, module in enumerate(self.modules):
            yield module, np.flatnonzero(mask[index])

    def parameters(self, mask: Mask) -> int:
        """Adapter parameters under `mask`, the head not counted."""
        return sum(len(slots) * module.width for module, slots in self.living(mask))


def compact(layout: Layout, rows: Rows, mask: Mask) -> Rows:
    """The living rows only, `(living, width)` a module, plus the whole head. Copies."""
    kept = {module.name: rows[module.name][slots] for module, slots in layout.living(mask)}
    kept[HEAD] = rows[HEAD].copy()
    return kept


def pack_mask(mask: Mask) -> bytes:
    """The mask as bits, module by module, big-endian within a byte."""
    return np.packbits(mask.reshape(-1)).tobytes()


def unpack_mask(data: bytes, layout: Layout) -> Mask:
    """Inverse of `pack_mask`.

    Raises:
        PayloadError: if `data` has another length than the layout's mask, or stray bits behind its end.
    """
    expected = (layout.ranks + 7) // 8
    if len(data) != expected:
        raise PayloadError(f"a mask of {layout.ranks} ranks has {expected} bytes, got {len(data)}")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if bits[layout.ranks :].any():
        raise PayloadError(f"a mask of {layout.ranks} ranks has bits set behind its end")
    return bits[: layout.ranks].astype(np.bool_).reshape(len(layout.modules), layout.slots)


def keep_top(scores: npt.NDArray[np.floating], mask: Mask, keep: int) -> Mask:
    """The `keep` best-scored ranks of `mask` over all modules together; exactly `keep` of them if so many live.

    `scores` is `(modules, slots)`. Ties go to the lower index, so both sides decide alike.
    """
    order = np.argsort(-np.where(mask, scores, -np.inf).reshape(-1), kind="stable")
    chosen = np.zeros(mask.size, dtype=np.bool_)
    chosen[order[: min(keep, int(mask.sum()))]] = True
    return chosen.reshape(mask.shape)


def top_share(count: int, budget: int, living: int) -> int:
    """How many of `count` trained ranks a device votes for when `budget` of `living` ranks are to stay."""
    return min(count, max(1, round(count * budget / living))) if count else 0
