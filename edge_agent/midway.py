"""A round of training that is not over: what is kept of it, so that a process that dies need not begin it again.

Written table by table, so that no second copy of the rows and moments is ever in memory.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edge_agent.examples import Tokens
from edge_agent.jobs import TrainJob
from edge_agent.store import Store
from edge_agent.watch import Footing
from edge_agent.wire import crash_points
from edge_agent.wire.cost import ChosenPlan
from edge_agent.wire.crash_points import Point
from edge_agent.wire.malformed import MALFORMED

LOGGER = logging.getLogger("rankfleet.trainer")

Tables = Mapping[str, npt.NDArray[Any]]
"""What training changes in place, by name: rows, moments, the sums of the scorer."""


class Midway(msgspec.Struct, frozen=True):
    """How far a round has come. With its tables, all that the next step depends on beside what the round began with."""

    step: int
    losses: tuple[float, ...]
    times_s: tuple[float, ...]
    footing: Footing


class _Kept(msgspec.Struct, frozen=True):
    """Beside the tables in the store: `key` says of which round they are, `sha256` is over all of their bytes."""

    key: bytes
    sha256: bytes
    midway: Midway


class Checkpoints:
    """Keeps one round's training in the store, at most every `every_s` seconds.

    `key` names the round (see `round_key`): what is kept of another one is no use and is overwritten.
    """

    def __init__(self, store: Store, key: bytes, every_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._key = key
        self._every_s = every_s
        self._clock_s = clock_s
        self._kept_s = clock_s()

    def is_due(self) -> bool:
        """Whether so much was trained since that it is worth keeping."""
        return self._clock_s() - self._kept_s >= self._every_s

    def keep(self, midway: Midway, tables: Tables) -> None:
        """Replaces what was kept.

        Raises:
            StoreError: it cannot be written; what was kept before stays.
        """
        kept = _Kept(self._key, _sha256(table.tobytes() for table in tables.values()), midway)
        self._store.keep_midway(msgspec.msgpack.encode(kept), ((name, tables[name].tobytes()) for name in tables))
        self._kept_s = self._clock_s()
        crash_points.reach(Point.TRAINER_CHECKPOINTED)

    def restore(self, tables: Tables) -> Midway | None:
        """Fills `tables` with what was kept and tells how far that is; None, and nothing is touched, if nothing is.

        Raises:
            StoreError: the database cannot be read.
        """
        kept = self._known()
        if kept is None or not self._is_whole(kept, tables):
            return None
        for name, table in tables.items():
            table[...] = np.frombuffer(self._store.midway_table(name), table.dtype).reshape(table.shape)
        LOGGER.warning("training goes on after step %d, where it was interrupted", kept.midway.step)
        return kept.midway

    def _known(self) -> _Kept | None:
        head = self._store.midway()
        if head is None:
            return None
        try:
            kept = msgspec.msgpack.decode(head, type=_Kept)
        except MALFORMED as error:
            LOGGER.warning("the checkpoint of a round is damaged, and the round starts again: %s", error)
            return None
        return kept if kept.key == self._key else None

    def _is_whole(self, kept: _Kept, tables: Tables) -> bool:
        found = _sha256(self._store.midway_table(name) for name in tables)
        if found != kept.sha256:
            LOGGER.warning("the checkpoint of a round is damaged, and the round starts again: checksum mismatch")
        return found == kept.sha256


def round_key(job: TrainJob, plan: ChosenPlan, examples: Tokens) -> bytes:
    """A digest of all that a round's training depends on: the plan, the terms, what computes, the examples."""
    terms, asked = job.terms, job.plan
    welcome = terms.welcome
    parts = (
        (asked.round, asked.version, asked.state_sha256, asked.work, asked.trained, asked.lowest_block),
        (welcome.run, welcome.seed, welcome.training, welcome.pack.sha256, terms.device),
        (terms.engine, terms.torch_device, terms.products),
        (plan.tokens, plan.micro_batch, plan.lowest_block, plan.kept_blocks),
        [len(ids) for ids in examples.ids],
    )
    digest = hashlib.sha256(msgspec.msgpack.encode(parts))
    for ids in (*examples.ids, examples.labels):
        digest.update(ids.astype("<i4").tobytes())
    return digest.digest()


def _sha256(parts: Iterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
