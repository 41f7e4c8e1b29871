"""Tells the broker of a fleet folder which certificates are withdrawn, one process at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from coordinator.enrolment import cut
from coordinator.enrolment.authority import Authority
from coordinator.enrolment.desk import Withdrawn
from coordinator.enrolment.folder import FleetFolder
from edge_agent.wire.errors import StoreError

LOCK = ".revocations.lock"


class FolderBroker:
    """The broker that runs with the configuration in `folder`, if it runs."""

    def __init__(self, folder: FleetFolder, authority: Authority, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._authority = authority
        self._now = now

    def reload(self, current: Callable[[], Withdrawn]) -> None:
        """From now on the broker, and the coordinator, refuse exactly what is withdrawn.

        Raises:
            StoreError, ConfigError: the folder cannot be written, or the broker is another user's.
        """
        with self._alone():
            cut.publish(self._folder, self._authority, _revocations(current()), self._now())
            cut.reload(self._folder)

    def cut(self, device: str, current: Callable[[], Withdrawn]) -> str:
        """As `reload`, and the session of `device` ends.

        Raises:
            LinkError: the broker does not do as it should: the device may still be connected.
            StoreError, ConfigError: as `reload`.
        """
        with self._alone():
            return cut.cut(self._folder, self._authority, device, _revocations(current()), self._now()).value

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Command line and service write the same lists: what is written last must be the newest."""
        path = self._folder.revoked.with_name(LOCK)
        try:
            if not path.exists():
                self._folder.write(path, b"")
            file = path.open("rb")
        except OSError as error:
            raise StoreError(f"{path} cannot be used: {error}; run this as the folder's owner") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _revocations(withdrawn: Withdrawn) -> cut.Revocations:
    return cut.Revocations(withdrawn.serials, withdrawn.devices)
