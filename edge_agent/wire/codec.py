"""The binary objects of a round: what a device sends up, and what the coordinator sends down.

Bodies, little-endian, inside a `container`::

    update  layout digest 16 | round u64 | version u64 | examples u64 | votes bit mask | row set | scores f16
    delta   layout digest 16 | version from u64 | version to u64 | mask bit mask | row set

Scores stand in byte planes and in the order of the trained ranks. A snapshot is `state.to_bytes`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import rowset
from .container import Kind, Reader, seal, sealed_limit_bytes, unseal
from .errors import PayloadError
from .ranks import Layout, Mask, pack_mask, unpack_mask
from .rowset import RowSet
from .state import LAYOUT_DIGEST_BYTES, ModelState, check_layout, layout_digest

MAX_EXAMPLES = 2**28
"""Most examples behind one round; fixed-point sums rely on it (see `coordinator.aggregate`)."""

_UPDATE = struct.Struct("<QQQ")
_DELTA = struct.Struct("<QQ")
_SCORE_BYTES = 2


@dataclass(frozen=True)
class Update:
    """What one device learned in one round, from the state at `version`.

    `changes.ranks` are the ranks it trained, `votes` those of them that it would keep. `scores` is float32
    `(modules, slots)`: importance relative to the device's best rank, in [0, 1], zero for ranks it did not train.
    """

    round: int
    version: int
    examples: int
    votes: Mask
    scores: npt.NDArray[np.float32]
    changes: RowSet


@dataclass(frozen=True)
class Delta:
    """The step from one version to the next: `mask` is what lives after it, `changes` what to add."""

    version_from: int
    version_to: int
    mask: Mask
    changes: RowSet


def encode_update(update: Update, layout: Layout) -> bytes:
    """`update` as an object.

    Raises:
        PayloadError: if the coordinator would refuse it, for instance because training diverged.
    """
    _check_update(update)
    scores = update.scores[update.changes.ranks].astype("<f2").view(np.uint8)
    parts = (
        layout_digest(layout),
        _UPDATE.pack(update.round, update.version, update.examples),
        pack_mask(update.votes),
        rowset.write(update.changes),
        scores.reshape(-1, _SCORE_BYTES).T.tobytes(),
    )
    return seal(Kind.UPDATE, b"".join(parts))


def decode_update(data: bytes, layout: Layout, *, limit_bytes: int, allowed: Mask | None = None) -> Update:
    """Inverse of `encode_update`; `allowed` are the ranks that the device was told to train.

    Raises:
        PayloadError: over `limit_bytes`, altered, of another layout, with impossible values or counts, or with
            rows of ranks that are not in `allowed`.
    """
    if len(data) > limit_bytes:
        raise PayloadError(f"an update of this fleet has at most {limit_bytes} bytes, got {len(data)}")
    reader = Reader(unseal(Kind.UPDATE, data, _body_limit_bytes(layout)))
    check_layout(reader.take_bytes(LAYOUT_DIGEST_BYTES), layout)
    round_, version, examples = _UPDATE.unpack(reader.take_bytes(_UPDATE.size))
    votes = _take_mask(reader, layout)
    changes = rowset.read(reader, layout)
    scores = _take_scores(reader, changes.ranks)
    reader.finish()
    update = Update(round_, version, examples, votes, scores, changes)
    _check_update(update)
    if allowed is not None and (changes.ranks & ~allowed).any():
        raise PayloadError("an update has rows of ranks that the device was not told to train, or that are pruned")
    return update


def update_limit_bytes(layout: Layout) -> int:
    """The most bytes that an update of `layout` can have."""
    return sealed_limit_bytes(_body_limit_bytes(layout))


def _body_limit_bytes(layout: Layout) -> int:
    """The same before compression."""
    fixed = LAYOUT_DIGEST_BYTES + _UPDATE.size + (layout.ranks + 7) // 8
    return fixed + rowset.limit_bytes(layout) + _SCORE_BYTES * layout.ranks


def encode_delta(delta: Delta, layout: Layout) -> bytes:
    """`delta` as an object. Raises as `encode_update`."""
    _check_delta(delta)
    versions = _DELTA.pack(delta.version_from, delta.version_to)
    parts = (layout_digest(layout), versions, pack_mask(delta.mask), rowset.write(delta.changes))
    return seal(Kind.DELTA, b"".join(parts))


def decode_delta(data: bytes, layout: Layout) -> Delta:
    """Inverse of `encode_delta`.

    Raises:
        PayloadError: altered, of another layout, or with impossible values or versions.
    """
    limit = LAYOUT_DIGEST_BYTES + _DELTA.size + (layout.ranks + 7) // 8 + rowset.limit_bytes(layout)
    reader = Reader(unseal(Kind.DELTA, data, limit))
    check_layout(reader.take_bytes(LAYOUT_DIGEST_BYTES), layout)
    version_from, version_to = _DELTA.unpack(reader.take_bytes(_DELTA.size))
    mask = _take_mask(reader, layout)
    delta = Delta(version_from, version_to, mask, rowset.read(reader, layout))
    reader.finish()
    _check_delta(delta)
    return delta


def apply_delta(state: ModelState, delta: Delta) -> ModelState:
    """The state at `delta.version_to`: one float32 addition a number, so all sides get the same bits.

    Raises:
        PayloadError: if `delta` does not start at the version of `state`, or revives a pruned rank.
    """
    if delta.version_from != state.version:
        raise PayloadError(f"a delta from version {delta.version_from} does not fit a state at {state.version}")
    if (delta.mask & ~state.mask).any():
        raise PayloadError(f"the delta to version {delta.version_to} revives ranks that are pruned")
    rows = {name: table.copy() for name, table in state.rows.items()}
    changes = delta.changes.rows()
    for name, indices in rowset.chosen(state.layout, delta.changes.ranks, delta.changes.classes).items():
        rows[name][indices] += changes[name]
    for module, pruned in state.layout.living(~delta.mask):
        rows[module.name][pruned] = 0
    return ModelState(state.layout, delta.version_to, delta.mask, rows)


def _take_mask(reader: Reader, layout: Layout) -> Mask:
    return unpack_mask(reader.take_bytes((layout.ranks + 7) // 8), layout)


def _take_scores(reader: Reader, trained: Mask) -> npt.NDArray[np.float32]:
    planes = reader.take("|u1", (_SCORE_BYTES, int(trained.sum())))
    scores = np.zeros(trained.shape, dtype=np.float32)
    scores[trained] = np.ascontiguousarray(planes.T).view("<f2").reshape(-1)
    return scores


def _check_update(update: Update) -> None:
    trained = update.changes.ranks
    if not 1 <= update.examples <= MAX_EXAMPLES:
        raise PayloadError(f"an update counts 1 to {MAX_EXAMPLES} examples, got {update.examples}")
    if (update.votes & ~trained).any():
        raise PayloadError("an update votes for ranks that it did not train")
    if not ((update.scores >= 0) & (update.scores <= 1)).all() or update.scores[~trained].any():
        raise PayloadError("an update has scores outside of [0, 1], or of ranks that it did not train")


def _check_delta(delta: Delta) -> None:
    if delta.version_to <= delta.version_from:
        raise PayloadError(f"a delta leads to a later version, got {delta.version_from} to {delta.version_to}")
    if (delta.changes.ranks & ~delta.mask).any():
        raise PayloadError(f"the delta to version {delta.version_to} changes ranks that it prunes")
