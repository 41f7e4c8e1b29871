"""What the service manager is told: sd_notify(3) and its watchdog, in a few lines instead of a library.

A service of `Type=notify` sends datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names. Without one
nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

LOGGER = logging.getLogger("rankfleet.agent")
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """One connection to the service manager, from this process alone."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Takes the variables out of `environment`: a trainer process must not speak for the supervisor."""
        found = {name: environment.pop(name, "") for name in _VARIABLES}
        address = found["NOTIFY_SOCKET"]
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self.watchdog_s = _watchdog_s(found) if address else None
        """Seconds without a sign of life after which the manager restarts the service; None where it watches not."""
        self._fed_s = -1e9

    def tell(self, **values: str) -> None:
        """Sends `NAME=value` for each of `values`; a manager that does not listen is logged, and does no harm."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(f"{name}={value}" for name, value in values.items()).encode(), self._address)
        except OSError as error:
            LOGGER.warning("the service manager does not listen at %r: %s", self._address, error.strerror)

    def feed(self, now_s: float) -> None:
        """A sign of life, sent four times in the watchdog's time; `now_s` is monotonic."""
        if self.watchdog_s is not None and now_s - self._fed_s >= self.watchdog_s / 4:
            self._fed_s = now_s
            self.tell(WATCHDOG="1")

    def reloading(self) -> None:
        """The configuration is being read again; `READY=1` follows."""
        self.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))


def _watchdog_s(found: MutableMapping[str, str]) -> float | None:
    meant_for = found["WATCHDOG_PID"]
    if not found["WATCHDOG_USEC"].isdigit() or (meant_for and meant_for != str(os.getpid())):
        return None
    return int(found["WATCHDOG_USEC"]) / 1e6
