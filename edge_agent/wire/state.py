"""The model state that both sides hold: adapters and head at one version.

Version 0 is made from a seed on either side, so no device downloads it. `A` and `B` start Gaussian with
`1/sqrt(d_in)` and `1/sqrt(d_out)`, `E` at zero: the adapted model starts as the pretrained one (AdaLoRA,
arXiv 2303.10512, section 3.1).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .container import Kind, Reader, seal, unseal
from .errors import PayloadError
from .ranks import HEAD, Layout, Mask, Module, Rows, pack_mask, unpack_mask
from .rng import generator

HEAD_SIGMA = 0.02  # the spread with which BERT-like models initialise a new classifier
LAYOUT_DIGEST_BYTES = 16


@dataclass(frozen=True)
class ModelState:
    """Adapters and head at `version`. Rows of pruned ranks are zero; nobody writes into `rows`."""

    layout: Layout
    version: int
    mask: Mask
    rows: Rows


def layout_digest(layout: Layout) -> bytes:
    """What tells layouts apart on the wire: 16 bytes of a sha256 over modules, slots, classes and width."""
    modules = [[m.name, m.block, m.d_in, m.d_out] for m in layout.modules]
    text = json.dumps([modules, layout.slots, layout.classes, layout.d_model], separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).digest()[:LAYOUT_DIGEST_BYTES]


def seed_state(layout: Layout, seed: int) -> ModelState:
    """Version 0: the same bytes on every platform."""
    rows = {module.name: _seed_module(module, layout.slots, seed) for module in layout.modules}
    head = np.zeros((layout.classes, layout.d_model + 1), dtype=np.float32)
    head[:, :-1] = generator(seed, "seed", HEAD).gaussian((layout.classes, layout.d_model), HEAD_SIGMA)
    rows[HEAD] = head
    return ModelState(layout, 0, layout.full_mask(), rows)


def _seed_module(module: Module, slots: int, seed: int) -> npt.NDArray[np.float32]:
    rows = np.zeros((slots, module.width), dtype=np.float32)
    first = generator(seed, "seed", module.name, "A")
    rows[:, : module.d_in] = first.gaussian((slots, module.d_in), 1 / math.sqrt(module.d_in))
    second = generator(seed, "seed", module.name, "B")
    rows[:, module.d_in + 1 :] = second.gaussian((slots, module.d_out), 1 / math.sqrt(module.d_out))
    return rows


def digest(state: ModelState) -> bytes:
    """sha256 over the canonical bytes: two sides agree on it exactly if they hold the same state."""
    return hashlib.sha256(_body(state)).digest()


def to_bytes(state: ModelState) -> bytes:
    """A snapshot of `state`, for disk or for a device that has missed too many versions."""
    return seal(Kind.SNAPSHOT, _body(state))


def from_bytes(data: bytes, layout: Layout) -> ModelState:
    """Inverse of `to_bytes`.

    Raises:
        PayloadError: not a snapshot of this layout, cut short, altered, or with values that are not finite.
    """
    reader = Reader(unseal(Kind.SNAPSHOT, data, _limit_bytes(layout)))
    check_layout(reader.take_bytes(LAYOUT_DIGEST_BYTES), layout)
    version = int(reader.take("<u8", ())[()])
    mask = unpack_mask(reader.take_bytes((layout.ranks + 7) // 8), layout)
    rows = layout.empty_rows()
    for module, slots in layout.living(mask):
        rows[module.name][slots] = _take_finite(reader, module.name, (len(slots), module.width))
    rows[HEAD] = _take_finite(reader, HEAD, rows[HEAD].shape)
    reader.finish()
    return ModelState(layout, version, mask, rows)


def check_layout(found: bytes, layout: Layout) -> None:
    """Refuses an object of another layout.

    Raises:
        PayloadError: if `found` is not the digest of `layout`.
    """
    expected = layout_digest(layout)
    if found != expected:
        raise PayloadError(
            f"an object of layout {found.hex()}, but this fleet has layout {expected.hex()}: "
            "do both sides use the same pack, slots and classes?"
        )


def _body(state: ModelState) -> bytes:
    parts = [layout_digest(state.layout), state.version.to_bytes(8, "little"), pack_mask(state.mask)]
    for module, slots in state.layout.living(state.mask):
        parts.append(state.rows[module.name][slots].astype("<f4").tobytes())
    parts.append(state.rows[HEAD].astype("<f4").tobytes())
    return b"".join(parts)


def _limit_bytes(layout: Layout) -> int:
    values = sum(table.rows * table.width for table in layout.tables.values())
    return LAYOUT_DIGEST_BYTES + 8 + (layout.ranks + 7) // 8 + 4 * values


def _take_finite(reader: Reader, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    values = reader.take("<f4", shape)
    if not np.isfinite(values).all():
        raise PayloadError(f"table {name!r} of a snapshot holds values that are not finite")
    return values
