"""Speaks with the devices: frames in and out, the roster, objects to pull. Decides nothing about rounds."""

from __future__ import annotations

import logging

import msgspec

from coordinator.objects import Objects
from coordinator.roster import Device, Roster
from coordinator.store import DeviceRow, Store
from edge_agent.wire import frame, link, replay, topics, transfer
from edge_agent.wire import messages as m
from edge_agent.wire.errors import ProtocolError, WireError

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
        self.roster = Roster([_device(row) for row in store.devices()])

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

    def reject(self, device: str, error: WireError, number: int | None = None) -> None:
        """Tells a device that something of it was refused; another protocol version is final."""
        LOGGER.warning("refused from %s: %s", device, error)
        self.send(device, m.Rejected(number, str(error), isinstance(error, ProtocolError)))


def _device(row: DeviceRow) -> Device:
    ready = None if row.ready is None else msgspec.msgpack.decode(row.ready, type=m.Ready)
    return Device(row.name, replay.everything_up_to(row.boot, row.sequence), row.online, ready, row.note)


def _row(device: Device) -> DeviceRow:
    ready = None if device.ready is None else msgspec.msgpack.encode(device.ready)
    return DeviceRow(device.name, device.seen.boot, device.seen.highest, device.online, ready, device.note)
