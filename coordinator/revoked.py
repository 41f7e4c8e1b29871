"""Names of devices that are shut out, as the coordinator reads them while it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import read_text

LOGGER = logging.getLogger("rankfleet.coordinator")
REFRESH_S = 1.0

Revoked = Callable[[], frozenset[str]]


def encode(names: frozenset[str]) -> bytes:
    """The text of the file."""
    return "".join(f"{name}\n" for name in sorted(names)).encode()


class RevokedDevices:
    """The names in a file, at most `REFRESH_S` old; `clock` gives monotonic seconds.

    Raises:
        ConfigError: the file cannot be read at the start. Later, what was read last goes on to hold.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._names = self._read()
        self._read_s = clock()

    def __call__(self) -> frozenset[str]:
        """The names."""
        now_s = self._clock()
        if now_s - self._read_s >= REFRESH_S:
            self._read_s = now_s
            try:
                self._names = self._read()
            except ConfigError as error:
                LOGGER.warning("%s; %d names that were read before go on to hold", error, len(self._names))
        return self._names

    def _read(self) -> frozenset[str]:
        return frozenset(read_text(self._path, "revoked_file").split())


def revoked_devices(path: Path | None, clock: Callable[[], float]) -> Revoked:
    """Who is shut out: the names in the file at `path`, or nobody where none is configured.

    Raises:
        ConfigError: it cannot be read.
    """
    return frozenset if path is None else RevokedDevices(path, clock)
