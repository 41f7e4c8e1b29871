"""Quantised rows of some ranks and some classes: the content that updates and deltas have in common.

Body, little-endian; the counts follow from the masks::

    scheme      1 byte, its number
    ranks       bit mask over modules and slots
    classes     bit mask over the head's rows
    exact       float32, numbers of groups of width 1, table by table
    scales      float32, table by table
    codes       in the scheme's type, table by table

Arrays are stored as byte planes (all first bytes, then all second bytes, ...): the high bytes of floating-point
numbers resemble each other, which the entropy coder can use only where they stand together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .container import Reader
from .errors import PayloadError
from .quantise import Quantised, Scheme, dequantise, find_number, scale_columns, wide, with_feedback
from .ranks import HEAD, Layout, Mask, Rows, Table, pack_mask, unpack_mask

VALUE_LIMIT = 64.0
"""Largest change of one number in one round; fixed-point sums rely on it (see `coordinator.aggregate`)."""

Classes = npt.NDArray[np.bool_]
"""`(classes,)`; true where a head row is meant."""


@dataclass(frozen=True)
class RowSet:
    """`tables[name]` holds the rows of `ranks` (or, for the head, of `classes`) in ascending order."""

    scheme: Scheme
    ranks: Mask
    classes: Classes
    tables: dict[str, Quantised]

    def rows(self) -> Rows:
        """The float32 values of all tables, `(rows chosen, width)` each."""
        return {name: dequantise(table) for name, table in self.tables.items()}


def chosen(layout: Layout, ranks: Mask, classes: Classes) -> dict[str, npt.NDArray[np.intp]]:
    """The row numbers that the masks choose in each table."""
    indices = {module.name: slots for module, slots in layout.living(ranks)}
    indices[HEAD] = np.flatnonzero(classes)
    return indices


def quantise_rows(layout: Layout, change: Rows, residual: Rows, ranks: Mask, scheme: Scheme) -> tuple[RowSet, Rows]:
    """`change + residual` of `ranks` and of the head rows that changed, and the residual that this leaves.

    `change` holds chosen rows of each module `(chosen, width)` and the whole head; `residual` is full tables, and
    so is the new one. Residuals of rows that were not chosen wait for the next change of their row.
    """
    classes: Classes = np.any(change[HEAD], axis=1)
    left = {name: table.copy() for name, table in residual.items()}
    tables = {}
    for name, indices in chosen(layout, ranks, classes).items():
        delta = change[HEAD][indices] if name == HEAD else change[name]
        groups = layout.tables[name].groups
        tables[name], left[name][indices] = with_feedback(delta, residual[name][indices], groups, scheme)
    return RowSet(scheme, ranks, classes, tables), left


def limit_bytes(layout: Layout) -> int:
    """The most bytes that a row set of `layout` can have, in any scheme."""
    numbers = sum(t.rows * (t.width + len(wide(t.groups))) for t in layout.tables.values())
    return 1 + (layout.ranks + 7) // 8 + (layout.classes + 7) // 8 + 4 * numbers


def write(row_set: RowSet) -> bytes:
    """The body of `row_set`.

    Raises:
        PayloadError: if a value is not finite or exceeds `VALUE_LIMIT`, so the other side would refuse it.
    """
    tables = row_set.tables.values()
    for name, table in row_set.tables.items():
        _check(name, table)
    head = [bytes([row_set.scheme.number]), pack_mask(row_set.ranks), np.packbits(row_set.classes).tobytes()]
    exact = _planes([t.exact for t in tables], "<f4")
    scales = _planes([t.scales for t in tables], "<f4")
    return b"".join((*head, exact, scales, _planes([t.codes for t in tables], row_set.scheme.dtype)))


def read(reader: Reader, layout: Layout) -> RowSet:
    """Inverse of `write`.

    Raises:
        PayloadError: cut short, an unknown scheme, or values that are not finite, out of range or too large.
    """
    scheme = find_number(reader.take_bytes(1)[0])
    ranks = unpack_mask(reader.take_bytes((layout.ranks + 7) // 8), layout)
    classes = _unpack_classes(reader.take_bytes((layout.classes + 7) // 8), layout.classes)
    counts = {name: len(indices) for name, indices in chosen(layout, ranks, classes).items()}
    tables = [(layout.tables[name], count) for name, count in counts.items()]
    exact = _take_planes(reader, [(n, t.groups.count(1)) for t, n in tables], "<f4")
    scales = _take_planes(reader, [(n, scale_columns(t.groups, scheme)) for t, n in tables], "<f4")
    codes = _take_planes(reader, [(n, sum(wide(t.groups))) for t, n in tables], scheme.dtype)
    found = {}
    for (table, _), *parts in zip(tables, codes, scales, exact, strict=True):
        found[table.name] = _checked(table, scheme, *parts)
    return RowSet(scheme, ranks, classes, found)


def _checked(
    table: Table, scheme: Scheme, codes: npt.NDArray[Any], scales: npt.NDArray[Any], exact: npt.NDArray[Any]
) -> Quantised:
    quantised = Quantised(scheme, table.groups, codes, scales, exact)
    _check(table.name, quantised)
    return quantised


def _check(name: str, table: Quantised) -> None:
    if not ((table.scales >= 0) & (table.scales <= VALUE_LIMIT)).all():
        raise PayloadError(f"table {name!r} has a scale outside of [0, {VALUE_LIMIT:g}]: did training diverge?")
    levels = table.scheme.levels
    if levels and (np.abs(table.codes.astype(np.int16)) > levels).any():
        raise PayloadError(f"table {name!r} has a code outside of -{levels} to {levels}")
    if not (np.abs(dequantise(table)) <= VALUE_LIMIT).all():
        raise PayloadError(
            f"table {name!r} has a value that is not finite or over {VALUE_LIMIT:g}: did training diverge?"
        )


def _planes(arrays: list[npt.NDArray[Any]], dtype: str) -> bytes:
    flat = np.concatenate([array.astype(dtype).reshape(-1) for array in arrays])
    planes: npt.NDArray[np.uint8] = flat.view(np.uint8).reshape(-1, flat.itemsize).T
    return planes.tobytes()


def _take_planes(reader: Reader, shapes: list[tuple[int, int]], dtype: str) -> list[npt.NDArray[Any]]:
    kind = np.dtype(dtype)
    sizes = [rows * columns for rows, columns in shapes]
    planes = reader.take("|u1", (kind.itemsize, sum(sizes)))
    flat = np.ascontiguousarray(planes.T).view(kind).reshape(-1).astype(kind.newbyteorder("="))
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _unpack_classes(data: bytes, classes: int) -> Classes:
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if bits[classes:].any():
        raise PayloadError(f"a mask of {classes} classes has bits set behind its end")
    return bits[:classes].astype(np.bool_)
