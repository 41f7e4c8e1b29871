"""The registry of devices: who is online, what they can do, which of their messages are new. Without I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from edge_agent.wire import messages as m
from edge_agent.wire import replay


@dataclass(frozen=True)
class Device:
    """One device as the coordinator knows it, also from before a restart. `note` is its last trouble, for a person."""

    name: str
    seen: replay.Seen = field(default_factory=replay.Seen)
    online: bool = False
    ready: m.Ready | None = None
    note: str = ""
    forgotten: bool = False
    """Whether it was ready once, and what it said then is damaged."""

    @property
    def took_part(self) -> bool:
        """Whether it was ever ready."""
        return self.ready is not None or self.forgotten

    @property
    def version(self) -> int:
        """Version of the model state that the device holds, as far as known."""
        return 0 if self.ready is None else self.ready.version


class Roster:
    """All devices by name."""

    def __init__(self, devices: list[Device]) -> None:
        self._devices = {device.name: device for device in devices}

    def __iter__(self) -> Iterator[Device]:
        return iter(sorted(self._devices.values(), key=lambda device: device.name))

    def __getitem__(self, name: str) -> Device:
        return self._devices.get(name, Device(name))

    def admit(self, name: str, boot: int, sequence: int) -> bool:
        """Whether a message is new: of the device's present boot or a later one, and not seen before."""
        device = self[name]
        seen, new = replay.admit(device.seen, boot, sequence)
        self._devices[name] = replace(device, seen=seen)
        return new

    def change(self, name: str, **fields: object) -> Device:
        """Sets fields of a device; returns it."""
        self._devices[name] = replace(self[name], **fields)  # type: ignore[arg-type]
        return self._devices[name]
