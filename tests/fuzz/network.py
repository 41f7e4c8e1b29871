"""What bytes from the network reach: frames, messages, objects, chunks. Each function returns or refuses."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from coordinator import fleet_model
from coordinator.allocate import Terms, allocate
from coordinator.config import GuardSettings
from coordinator.intake import Intake
from coordinator.roster import Roster
from coordinator.store import DeviceRow, Store
from edge_agent.wire import codec, frame, rowset, transfer
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.class_statistics import statistics_layout
from edge_agent.wire.container import FORMAT, MAGIC, Kind, Reader, kind_of, seal, unseal
from edge_agent.wire.cost import Model
from edge_agent.wire.errors import BudgetError, WireError
from edge_agent.wire.pace import LEAST_CHUNK_BYTES
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import Layout, Module, pack_mask, unpack_mask

LAYOUT = Layout((Module("block.0.query", 0, 6, 4), Module("block.1.ffn", 1, 4, 8)), slots=3, classes=2, d_model=4)
"""That of the golden objects."""
STATISTICS = statistics_layout(LAYOUT)
OBJECT = bytes(range(250)) * 14
CHUNK_BYTES = LEAST_CHUNK_BYTES
BODY_LIMIT_BYTES = 2**20

_FLEET = fleet_model.start(LAYOUT, 4)
_RULES = fleet_model.Rules(budget_ranks=4, threshold=0.5, scheme=SCHEMES["int8"])
_TERMS = Terms(Model(2, 4, 100, 22, 1000), 8, (16, 8), 10, 60.0, 20.0, SCHEMES["int4"])
_FROM_AGENT = frame.Decoder(m.FromAgent)
_FROM_COORDINATOR = frame.Decoder(m.FromCoordinator)
_REF = m.ObjectRef("delta", hashlib.sha256(OBJECT).digest(), len(OBJECT))


def sealed_frame(body: bytes, head: bytes = frame.encode(m.Leave(""), 1, 1)[:16]) -> bytes:
    """A frame with the right checksum around any body, and any `head` that begins with magic and version."""
    return head + hashlib.sha256(head + body).digest() + body


def sealed_stream(packed: bytes, kind: Kind = Kind.UPDATE) -> bytes:
    """An object with the right checksum around any compressed bytes."""
    head = MAGIC + kind.value + bytes([FORMAT])
    return head + hashlib.sha256(head + packed).digest() + packed


def frame_from_agent(data: bytes) -> None:
    """What the coordinator does with a frame before it looks at the roster."""
    _checked(_FROM_AGENT, data)


def frame_from_coordinator(data: bytes) -> None:
    """The same of an agent."""
    _checked(_FROM_COORDINATOR, data)


def message_from_agent(data: bytes) -> None:
    """What the coordinator does with a message before it changes a round."""
    message = _checked(_FROM_AGENT, sealed_frame(data))
    if isinstance(message, m.Ready):
        importance = np.zeros((len(LAYOUT.modules), LAYOUT.slots))
        allocate(LAYOUT, LAYOUT.full_mask(), importance, message.capability, _TERMS)
    elif isinstance(message, m.Offer):
        intake = Intake(NO_STORE, LAYOUT, GuardSettings())
        intake.begin("pi", message, message.round)
        list(intake.wants(CHUNK_BYTES, 0.0, lambda _: True))
    else:
        _exchange(message)


def message_from_coordinator(data: bytes) -> None:
    """What an agent does with a message before it changes its session."""
    message = _checked(_FROM_COORDINATOR, sealed_frame(data))
    if isinstance(message, m.Plan):
        unpack_mask(message.trained, LAYOUT)
    else:
        _exchange(message)


def roster(folder: Path) -> Callable[[bytes], None]:
    """Boot and sequence number of a frame, which the coordinator keeps on disk; the database is in `folder`."""
    store = Store(folder / "roster.db")
    magic, body = frame.encode(m.Leave(""), 1, 1)[:4], frame.encode(m.Missing(bytes(32)), 1, 1)[48:]

    def run(data: bytes) -> None:
        known = Roster([])
        for at in range(0, len(data) - 11, 12):
            envelope = _FROM_AGENT.decode(sealed_frame(body, magic + data[at : at + 12]))
            known.admit("pi", envelope.boot, envelope.sequence)
            assert not known.admit("pi", envelope.boot, envelope.sequence) or envelope.sequence == 0
        seen = known["pi"].seen
        store.keep_device(DeviceRow("pi", seen.boot, seen.highest, True, None, ""))

    return run


def update(data: bytes) -> None:
    """An update as it was pulled from a device."""
    kind_of(data)
    found = codec.decode_update(data, LAYOUT, limit_bytes=codec.update_limit_bytes(LAYOUT))
    assert _body(codec.encode_update(found, LAYOUT)) == _body(data)


def statistics(data: bytes) -> None:
    """An update with statistics of classes."""
    found = codec.decode_update(data, STATISTICS, limit_bytes=codec.update_limit_bytes(STATISTICS))
    assert _body(codec.encode_update(found, STATISTICS)) == _body(data)


def closing(data: bytes) -> None:
    """An update, up to the second version of the model that is made of it: what is accepted cannot stop the fleet."""
    found = codec.decode_update(data, LAYOUT, limit_bytes=codec.update_limit_bytes(LAYOUT))
    model = _FLEET
    for _ in range(2):
        model = _accepted(fleet_model.close_round, model, [found], 1.0, _RULES)


def head_start(data: bytes) -> None:
    """The same for statistics of classes, up to the head that is made of them."""
    found = codec.decode_update(data, STATISTICS, limit_bytes=codec.update_limit_bytes(STATISTICS))
    _accepted(fleet_model.start_head, _FLEET, [found], _RULES.scheme)


def delta(data: bytes) -> None:
    """A delta as it was pulled by an agent, up to the next version of its state."""
    found = codec.decode_delta(data, LAYOUT)
    assert _body(codec.encode_delta(found, LAYOUT)) == _body(data)
    codec.apply_delta(_FLEET.state, found)


def snapshot(data: bytes) -> None:
    """A snapshot as it was pulled by an agent, or read from a database."""
    assert _body(states.to_bytes(states.from_bytes(data, LAYOUT))) == _body(data)


def sealing(kind: Kind, decode: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """`decode` for any body, behind a checksum and a compression that are right."""
    return lambda body: decode(seal(kind, body))


def stream(data: bytes) -> None:
    """Any compressed bytes behind a checksum that is right."""
    assert len(unseal(Kind.UPDATE, sealed_stream(data), BODY_LIMIT_BYTES)) <= BODY_LIMIT_BYTES


def row_set(data: bytes) -> None:
    """What updates and deltas have in common."""
    reader = Reader(data)
    found = rowset.read(reader, LAYOUT)
    reader.finish()
    assert rowset.write(found) == data


def mask(data: bytes) -> None:
    """A bit mask of ranks."""
    assert pack_mask(unpack_mask(data, LAYOUT)) == data


def chunks(data: bytes) -> None:
    """Chunks of one object in any order: `offset u16 | bytes u16 | from u16` each, of the object or beside it."""
    sink = transfer.MemorySink(len(OBJECT))
    receiver = transfer.Receiver(_REF, sink, CHUNK_BYTES, window=2)
    for offset_bytes, size_bytes, start in struct.iter_unpack("<HHH", data[: len(data) // 6 * 6]):
        receiver.want()
        receiver.take(m.Chunk(_REF.sha256, offset_bytes, OBJECT[start : start + size_bytes]))
        if receiver.done:
            receiver.finish()
            assert sink.data == OBJECT
            return


class _NoStore(Store):
    """An intake asks its store only for complete updates."""

    def __init__(self) -> None:
        pass


NO_STORE = _NoStore()


def _accepted(close: Callable[..., fleet_model.Closing], *arguments: Any) -> fleet_model.FleetModel:
    """The model after a round, of which nothing may be refused any more."""
    try:
        return close(*arguments).model
    except WireError as error:
        raise AssertionError("what was accepted was refused later") from error


def _checked(decoder: frame.Decoder, data: bytes) -> Any:
    """The message in a frame, which must survive being sent on."""
    envelope = decoder.decode(data)
    again = frame.encode(envelope.message, envelope.boot, envelope.sequence)
    assert frame.encode(decoder.decode(again).message, envelope.boot, envelope.sequence) == again
    return envelope.message


def _exchange(message: m.Message) -> None:
    if isinstance(message, m.Want):
        for chunk in transfer.serve(message, transfer.BytesSource(OBJECT)):
            assert len(chunk.data) <= message.chunk_bytes
    elif isinstance(message, m.Chunk):
        ref = m.ObjectRef("delta", message.sha256, len(OBJECT))
        transfer.Receiver(ref, transfer.MemorySink(), CHUNK_BYTES, window=2).take(message)


def _body(data: bytes) -> bytes:
    return unseal(kind_of(data), data, BODY_LIMIT_BYTES)


REFUSALS = (WireError, BudgetError)
"""What these functions may raise."""
