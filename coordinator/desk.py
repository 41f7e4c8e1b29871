"""Speaks with the devices: frames in and out, the roster, the pulls of updates. Decides nothing about rounds."""

from __future__ import annotations

import logging

import msgspec

from coordinator.objects import Objects
from coordinator.roster import Device, Roster
from coordinator.store import DeviceRow, Store
from edge_agent.wire import frame, link, replay, topics, transfer
from edge_agent.wire import messages as m
from edge_agent.wire.errors import PayloadError, ProtocolError, WireError
from edge_agent.wire.pull import Puller

LOGGER = logging.getLogger("rankfleet.coordinator")


class Desk:
    """All conversations. What needs no decision about rounds (the serving of objects, replays) is settled here."""

    def __init__(self, fleet: str, store: Store, objects: Objects, wire: link.Link) -> None:
        self._fleet = fleet
        self._store = store
        self._objects = objects
        self._link = wire
        self._boot = store.next_boot()
        self._sequence = 0
        self._decoder = frame.Decoder(m.FromAgent)
        self._pulls: dict[str, tuple[Puller, transfer.MemorySink]] = {}
        self.roster = Roster([_device(row) for row in store.devices()])

    def receive(self, event: link.Received) -> tuple[str, m.Message | None]:
        """The device that spoke, and its message if that needs a decision.

        Raises:
            WireError: what came cannot be accepted; nothing of it touched any state.
        """
        device = topics.device_of(event.topic)
        envelope = self._decoder.decode(event.payload)
        if not self.roster.admit(device, envelope.boot, envelope.sequence):
            if isinstance(envelope.message, m.Hello):
                self.send(device, m.Outdated(self.roster[device].seen.boot))
            return device, None
        if isinstance(envelope.message, m.Want):
            self._serve(device, envelope.message)
            return device, None
        return device, envelope.message

    def _serve(self, device: str, want: m.Want) -> None:
        source = self._objects.find(want.sha256)
        if source is None:
            self.send(device, m.Missing(want.sha256))
            return
        limit_bytes = transfer.chunk_bytes_for(self._link.max_payload_bytes)
        for chunk in transfer.serve(want, source, limit_bytes=limit_bytes):
            if not self.send(device, chunk):
                return

    def send(self, device: str, message: m.Message) -> bool:
        """Sends `message`; False if the link could not take it. What matters is repeated by the protocol."""
        self._sequence += 1
        payload = frame.encode(message, self._boot, self._sequence)
        return self._link.publish(topics.down(self._fleet, device), payload)

    def pull(self, device: str, ref: m.ObjectRef, limit_bytes: int) -> None:
        """Begins to pull an object from a device; one that is on its way already goes on.

        Raises:
            PayloadError: it has more than `limit_bytes`.
        """
        if ref.size_bytes > limit_bytes:
            raise PayloadError(f"a {ref.kind} has at most {limit_bytes} bytes here, {device} offers {ref.size_bytes}")
        puller = self._pulls.get(device)
        if puller is not None and puller[0].wants(ref.sha256):
            return
        sink = transfer.MemorySink(limit_bytes)
        self._pulls[device] = (Puller(), sink)
        self._pulls[device][0].add(ref, sink)

    def take(self, device: str, chunk: m.Chunk, now_s: float) -> tuple[m.ObjectRef, bytes] | None:
        """Books a chunk; the object and its bytes once it is complete.

        Raises:
            PayloadError: the chunk cannot be, or the object is not what its hash says.
        """
        if device not in self._pulls:
            return None
        puller, sink = self._pulls[device]
        ref = puller.take(chunk, now_s)
        if ref is None:
            return None
        del self._pulls[device]
        return ref, sink.data

    def drop_pull(self, device: str) -> None:
        """Forgets what is on its way from a device."""
        self._pulls.pop(device, None)

    def drop_pulls(self) -> None:
        """Forgets all objects on their way: their round is over."""
        self._pulls.clear()

    def poll(self, now_s: float) -> None:
        """Asks for what is due."""
        chunk_bytes = transfer.chunk_bytes_for(self._link.max_payload_bytes)
        for device, (puller, _) in self._pulls.items():
            want = puller.poll(chunk_bytes, now_s)
            if want is not None:
                self.send(device, want)

    def change(self, name: str, **fields: object) -> Device:
        """Sets fields of a device, on disk too."""
        device = self.roster.change(name, **fields)
        self._store.keep_device(_row(device))
        return device

    def reject(self, device: str, error: WireError, number: int | None = None) -> None:
        """Tells a device that something of it was refused; another protocol version is final."""
        LOGGER.warning("refused from %s: %s", device, error)
        self.send(device, m.Rejected(number, str(error), isinstance(error, ProtocolError)))


def _device(row: DeviceRow) -> Device:
    ready = None if row.ready is None else msgspec.msgpack.decode(row.ready, type=m.Ready)
    return Device(row.name, replay.everything_up_to(row.boot, row.sequence), False, ready, row.note)


def _row(device: Device) -> DeviceRow:
    ready = None if device.ready is None else msgspec.msgpack.encode(device.ready)
    return DeviceRow(device.name, device.seen.boot, device.seen.highest, device.online, ready, device.note)
