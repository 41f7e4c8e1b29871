"""What a simulated device does in place of training: seeded changes, in the product's updates, some of them spoilt."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from edge_agent import update
from edge_agent.selection import trained_positions
from edge_agent.trainer import trainable
from edge_agent.wire import codec
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.container import Kind, kind_of, seal, unseal
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import HEAD, Layout, Rows, compact, unpack_mask
from edge_agent.wire.state import LAYOUT_DIGEST_BYTES, ModelState

from .faults import Fault

HOLDOUT = 10
"""Examples that a device holds out."""
_STEP = 0.05
_REMEMBERED = 64
_UPDATE_HEAD_BYTES = LAYOUT_DIGEST_BYTES + 24
_ABSURD = np.float32(40)


@dataclass(frozen=True)
class Trained:
    """An update as it is offered; `usable` is what the coordinator has to find out."""

    round: int
    body: bytes
    report: m.RoundReport
    residual: Rows
    usable: bool

    @property
    def sha256(self) -> bytes:
        """By which it is offered and pulled."""
        return hashlib.sha256(self.body).digest()


class States:
    """Model states by what led to them: devices that apply the same object to the same state share the result."""

    def __init__(self, layout: Layout, seed: int) -> None:
        self.seed = states.seed_state(layout, seed)
        self._known: OrderedDict[tuple[bytes, bytes], ModelState] = OrderedDict()
        self._digests: OrderedDict[int, tuple[ModelState, bytes]] = OrderedDict()

    def follow(self, state: ModelState, data: bytes) -> ModelState:
        """The state after one object, as a device's workspace has it.

        Raises:
            PayloadError: the object does not fit the state.
        """
        key = self.digest(state), hashlib.sha256(data).digest()
        if key not in self._known:
            self._known[key] = _followed(state, data)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]

    def digest(self, state: ModelState) -> bytes:
        """`wire.state.digest`, computed once for each state that is alive."""
        known = self._digests.get(id(state))
        if known is None or known[0] is not state:
            known = self._digests[id(state)] = state, states.digest(state)
            if len(self._digests) > _REMEMBERED:
                self._digests.popitem(last=False)
        return known[1]


def _followed(state: ModelState, data: bytes) -> ModelState:
    if kind_of(data) is Kind.SNAPSHOT:
        snapshot = states.from_bytes(data, state.layout)
        return snapshot if snapshot.version > state.version else state
    delta = codec.decode_delta(data, state.layout)
    return codec.apply_delta(state, delta) if delta.version_to > state.version else state


def train(plan: m.Plan, state: ModelState, residual: Rows, draws: np.random.Generator, fault: Fault | None) -> Trained:
    """The update of a device that holds `state`, spoilt where `fault` says so."""
    layout = state.layout
    trained = trainable(layout, unpack_mask(plan.trained, layout) & state.mask, plan.lowest_block)
    after = compact(layout, state.rows, state.mask)
    for name, places in trained_positions(layout, state.mask, trained).items():
        after[name][places] += _STEP * draws.standard_normal((len(places), after[name].shape[1]), np.float32)
    after[HEAD] += _STEP * draws.standard_normal(after[HEAD].shape, np.float32)
    scores = np.where(trained, draws.random(trained.shape), 0)
    examples = int(draws.integers(5, 50))
    part = update.Part(plan.round, trained, plan.budget_ranks, examples, find_scheme("int8"))
    made, left = update.make_update(part, state, after, scores, residual)
    body = _encoded(made, layout, draws, fault)
    told = examples + (fault is Fault.MISCOUNTED)
    return Trained(plan.round, body, _report(told, int(trained.sum()), draws), left, fault is None)


def _encoded(made: codec.Update, layout: Layout, draws: np.random.Generator, fault: Fault | None) -> bytes:
    if fault is Fault.OTHER_ROUND:
        made = replace(made, round=made.round + 1)
    elif fault is Fault.ABSURD:
        head = made.changes.tables[HEAD]
        absurd = replace(head, exact=np.full_like(head.exact, _ABSURD), scales=head.scales * 0 + _ABSURD / 127)
        made = replace(made, changes=replace(made.changes, tables={**made.changes.tables, HEAD: absurd}))
    body = codec.encode_update(made, layout)
    if fault is Fault.DAMAGED:
        spoilt = bytearray(body)
        spoilt[int(draws.integers(len(body)))] ^= 0xFF
        return bytes(spoilt)
    if fault is Fault.TOO_LARGE:
        return body + bytes(codec.update_limit_bytes(layout))
    return _not_finite(body, made, layout) if fault is Fault.NOT_FINITE else body


def _not_finite(body: bytes, made: codec.Update, layout: Layout) -> bytes:
    """`body` with its first number not a number: no encoder would make it, so the bytes are changed.

    Exact numbers stand in byte planes behind the row set's head (see `wire.rowset`).
    """
    raw = bytearray(unseal(Kind.UPDATE, body, codec.update_limit_bytes(layout)))
    masks_bytes = (layout.ranks + 7) // 8
    first = _UPDATE_HEAD_BYTES + masks_bytes + 1 + masks_bytes + (layout.classes + 7) // 8
    numbers = sum(table.exact.size for table in made.changes.tables.values())
    for plane, byte in enumerate(np.array([np.nan], "<f4").tobytes()):
        raw[first + plane * numbers] = byte
    return seal(Kind.UPDATE, bytes(raw))


def _report(examples: int, ranks: int, draws: np.random.Generator) -> m.RoundReport:
    return m.RoundReport(
        examples=examples,
        steps=1,
        loss=float(1 + 0.1 * draws.random()),
        holdout_correct=int(draws.binomial(HOLDOUT, 0.8)),
        holdout_total=HOLDOUT,
        micro_batch=1,
        depth=2,
        kept_blocks=0,
        step_downs=0,
        sequence_tokens=12,
        ranks=ranks,
        predicted_bytes=0,
        peak_rss_bytes=0,
        peak_anonymous_bytes=0,
        mapped_bytes=0,
        predicted_step_s=0.0,
        step_s=0.1,
        bytes_up=0,
        bytes_down=0,
        pack_bytes_down=0,
        phases=(),
    )
