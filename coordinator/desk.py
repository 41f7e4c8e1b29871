"""Speaks with the devices: frames in and out, the roster, objects to pull. Decides nothing about rounds."""

from __future__ import annotations

import logging

import msgspec

from coordinator.objects import Objects
from coordinator.roster import Device, Roster
from coordinator.rows import ready_of
from coordinator.store import DeviceRow, Store
from edge_agent.wire import frame, link, replay, topics, transfer
from edge_agent.wire import messages as m
from edge_agent.wire.errors import ProtocolError, StoreError, WireError

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
        self.roster = Roster([_device(store, row) for row in store.devices() if _is_whole(row)])

    @property
    def chunk_bytes(self) -> int:
        """Largest chunk that the link takes."""
        return transfer.chunk_bytes_for(self._link.max_payload_bytes)

    def receive(self, device: str, payload: bytes) -> m.Message | None:
        """What `device` said, if it is new and needs a decision.

        Raises:
            WireError: what came cannot be accepted; nothing of it touched any state.
        """
        envelope = self._decoder.decode(payload)
        message: m.Message = envelope.message
        if not self.roster.admit(device, envelope.boot, envelope.sequence):
            if isinstance(message, m.Hello):
                self.send(device, m.Outdated(self.roster[device].seen.boot))
            return None
        if isinstance(message, m.Want):
            self._serve(device, message)
            return None
        return message

    def _serve(self, device: str, want: m.Want) -> None:
        source = self._objects.find(want.sha256)
        if source is None:
            self.send(device, m.Missing(want.sha256))
            return
        for chunk in transfer.serve(want, source, limit_bytes=self.chunk_bytes):
            if not self.send(device, chunk):
                return

    def send(self, device: str, message: m.Message) -> bool:
        """Sends `message`; False if the link could not take it. What matters is repeated by the protocol."""
        self._sequence += 1
        payload = frame.encode(message, self._boot, self._sequence)
        return self._link.publish(topics.down(self._fleet, device), payload)

    def change(self, name: str, **fields: object) -> Device:
        """Sets fields of a device, on disk too."""
        device = self.roster.change(name, **fields)
        self._store.keep_device(_row(device))
        return device

    def came_to(self, device: str, version: int) -> None:
        """A device holds the model of `version`."""
        ready = self.roster[device].ready
        if ready is not None:
            self.change(device, ready=msgspec.structs.replace(ready, version=version))

    def reject(self, device: str, error: WireError, number: int | None = None) -> None:
        """Tells a device that something of it was refused; another protocol version is final."""
        LOGGER.warning("refused from %s: %s", device, error)
        self.send(device, m.Rejected(number, str(error), isinstance(error, ProtocolError)))


_UNREADABLE = b""
"""In the place of a Ready that is forgotten: no message is so short."""


def _is_whole(row: DeviceRow) -> bool:
    """Whether it is known whose row it is, and what came from there; a device without one is met as if it were new."""
    numbers = all(isinstance(number, int) for number in (row.boot, row.sequence))
    whole = topics.is_name(row.name) and numbers and 0 <= row.boot <= frame.MAX_BOOT and row.sequence >= 0
    if not whole:
        LOGGER.warning("the row of a device is damaged, and not used: %.80r, boot %.80r", row.name, row.boot)
    return whole


def _device(store: Store, row: DeviceRow) -> Device:
    """One whose Ready is damaged is not ready. Everyone is greeted at the start, and says again what it can do."""
    seen = replay.everything_up_to(row.boot, row.sequence)
    try:
        return Device(row.name, seen, row.online, ready_of(store, row), row.note)
    except StoreError as error:
        LOGGER.warning("%s", error)
        return Device(row.name, seen, row.online, None, str(error), forgotten=True)


def _row(device: Device) -> DeviceRow:
    ready = _UNREADABLE if device.forgotten else None
    if device.ready is not None:
        ready = msgspec.msgpack.encode(device.ready)
    return DeviceRow(device.name, device.seen.boot, device.seen.highest, device.online, ready, device.note)
