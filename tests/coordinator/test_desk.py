"""Frames in and out of the coordinator, one desk for all devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.desk import Desk
from coordinator.objects import Objects
from coordinator.store import Store
from edge_agent.wire import frame, topics
from edge_agent.wire import messages as m
from edge_agent.wire.errors import FrameError, PayloadError, ProtocolError
from edge_agent.wire.link import Received
from edge_agent.wire.memory_link import MemoryBroker
from tests.models import tiny_pack
from tests.runs import CAPABILITY, FLEET

HELLO = m.Hello("0.1.0", None, 0)
READY = m.Ready(bytes(32), 20, 5, 12, 3, CAPABILITY)


class Office:
    """A desk, and what the device `pi-1` hears of it."""

    def __init__(self, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.store = Store(folder / "coordinator.db")
        self.objects = Objects(tiny_pack(), self.store)
        self.coordinator = self.broker.link(topics.COORDINATOR, (topics.every_up(FLEET),))
        self.device = self.broker.link("pi-1", (topics.down(FLEET, "pi-1"),))
        self.desk = self.open()

    def open(self) -> Desk:
        """A desk as after a restart."""
        return Desk(FLEET, self.store, self.objects, self.coordinator)

    def heard(self) -> list[frame.Envelope]:
        decoder = frame.Decoder(m.FromCoordinator)
        received = iter(lambda: self.device.receive(0.0), None)
        return [decoder.decode(event.payload) for event in received if isinstance(event, Received)]

    def messages(self) -> list[m.Message]:
        return [envelope.message for envelope in self.heard()]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.store.close()


def test_a_message_is_handed_on_once(office: Office) -> None:
    payload = frame.encode(READY, 1, 1)
    assert [office.desk.receive("pi-1", payload) for _ in range(2)] == [READY, None]
    assert office.messages() == []


def test_a_hello_of_an_earlier_boot_is_answered_with_the_boot_to_exceed(office: Office) -> None:
    office.desk.receive("pi-1", frame.encode(HELLO, 4, 1))
    assert office.desk.receive("pi-1", frame.encode(READY, 3, 1)) is None
    assert office.desk.receive("pi-1", frame.encode(HELLO, 3, 2)) is None
    assert office.messages() == [m.Outdated(4)]


def test_what_is_no_frame_touches_nothing(office: Office) -> None:
    with pytest.raises(FrameError):
        office.desk.receive("pi-1", b"garbage")
    with pytest.raises(PayloadError):
        office.desk.receive("pi-1", frame.encode(m.Leave("not for us"), 9, 1))
    assert list(office.desk.roster) == []


def test_objects_are_served_without_a_decision(office: Office) -> None:
    manifest = office.objects.manifest
    count = -(-manifest.size_bytes // 300)
    want = m.Want(manifest.sha256, 300, tuple(range(count)))
    assert office.desk.receive("pi-1", frame.encode(want, 1, 1)) is None
    chunks = office.messages()
    assert all(isinstance(chunk, m.Chunk) for chunk in chunks)
    assert (
        b"".join(chunk.data for chunk in chunks if isinstance(chunk, m.Chunk))
        == (tiny_pack() / "manifest.json").read_bytes()
    )


def test_an_unknown_object_is_missing(office: Office) -> None:
    office.desk.receive("pi-1", frame.encode(m.Want(bytes(32), 300, (0,)), 1, 1))
    assert office.messages() == [m.Missing(bytes(32))]


@pytest.mark.parametrize(("chunk_bytes", "index"), [(2**24, 0), (300, 2**24)])
def test_chunks_that_cannot_be_are_refused(office: Office, chunk_bytes: int, index: int) -> None:
    want = m.Want(office.objects.manifest.sha256, chunk_bytes, (index,))
    with pytest.raises(PayloadError):
        office.desk.receive("pi-1", frame.encode(want, 1, 1))


def test_serving_stops_where_the_link_takes_no_more(office: Office) -> None:
    office.broker.cut(topics.COORDINATOR)
    want = m.Want(office.objects.manifest.sha256, 256, (0, 1, 2))
    assert office.desk.receive("pi-1", frame.encode(want, 1, 1)) is None
    assert office.messages() == []


def test_everything_sent_has_a_number_of_its_own_in_a_boot_of_its_own(office: Office) -> None:
    office.desk.send("pi-1", m.Leave("one"))
    office.desk.send("pi-1", m.Leave("two"))
    office.open().send("pi-1", m.Leave("three"))
    assert [(envelope.boot, envelope.sequence) for envelope in office.heard()] == [(1, 1), (1, 2), (2, 1)]


def test_only_another_protocol_is_refused_for_good(office: Office) -> None:
    office.desk.reject("pi-1", ProtocolError("too new"))
    office.desk.reject("pi-1", PayloadError("not finite"), 3)
    assert office.messages() == [m.Rejected(None, "too new", True), m.Rejected(3, "not finite", False)]


def test_the_roster_outlives_a_restart(office: Office) -> None:
    office.desk.receive("pi-1", frame.encode(READY, 2, 7))
    before = office.desk.change("pi-1", online=True, ready=READY, note="went away once")
    reopened = office.open()
    after = reopened.roster["pi-1"]
    assert (after.online, after.ready, after.note) == (before.online, before.ready, before.note)
    assert reopened.receive("pi-1", frame.encode(READY, 2, 7)) is None, "replays are known after a restart too"
    assert reopened.receive("pi-1", frame.encode(READY, 2, 8)) == READY
