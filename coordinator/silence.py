"""Devices that nothing is heard of any more, where no last will says so: as when it was lost with its broker."""

from __future__ import annotations

from collections.abc import Iterable


class Silence:
    """When each device was last heard. Times are monotonic seconds."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._heard_s: dict[str, float] = {}
        self._deaf = True

    def heard(self, device: str, now_s: float) -> None:
        """A message of `device` came."""
        self._heard_s[device] = now_s

    def deaf(self) -> None:
        """Our own connection is lost: that nothing is heard says nothing of the devices."""
        self._deaf = True

    def listening(self, now_s: float) -> None:
        """We are connected: every device has the whole time again."""
        self._deaf = False
        self._heard_s = dict.fromkeys(self._heard_s, now_s)

    def silent(self, devices: Iterable[str], now_s: float) -> tuple[str, ...]:
        """Those of `devices` that were not heard for as long as the limit, by name."""
        if self._deaf:
            return ()
        return tuple(sorted(one for one in devices if now_s - self._heard_s.get(one, now_s) >= self._limit_s))
