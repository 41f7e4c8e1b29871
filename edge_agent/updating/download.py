"""A bundle on its way to disk: it goes on where an earlier attempt ended, and its bytes are what the order says."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.wire.errors import EnrolmentError, FetchError
from edge_agent.wire.pack import file_sha256
from edge_agent.wire.updates import ReleaseOrder

LOGGER = logging.getLogger("rankfleet.update")
ATTEMPTS = 5
"""So often in a row without a byte, and the next run of the timer has to go on."""
PAUSE_S = 5.0
SPARE_BYTES = 64 * 2**20
"""What stays free of the disk: the agent needs some for its rounds."""

Source = Callable[[str, int], Iterator[tuple[int, bytes]]]
"""A bundle's bytes from an offset on, as (place, chunk)."""


def download(source: Source, order: ReleaseOrder, folder: Path, pause_s: float = PAUSE_S) -> Path:
    """The bundle of `order` in `folder`, whole and with the sha256 that it should have.

    Raises:
        FetchError: twice in a row it was another file than ordered, or there is no room for it.
        EnrolmentError: the gateway was lost too often; what came is kept.
        OSError: the disk cannot be written.
    """
    path = folder / f"{order.sha256}.tar"
    for _ in range(2):
        _fill(source, order, path, pause_s)
        sha256 = file_sha256(path)
        if sha256 == order.sha256:
            return path
        LOGGER.warning("%s should have sha256 %s, has %s: fetching it anew", order.name, order.sha256, sha256)
        path.unlink()
    raise FetchError(f"{order.name} came twice with another sha256 than {order.sha256}: make the bundle anew")


def drop(folder: Path, but: str | None = None) -> None:
    """Deletes downloads, whole or not, except the one with the sha256 `but`. Raises OSError."""
    for path in folder.glob("*.tar"):
        if path.name != f"{but}.tar":
            path.unlink()


def _fill(source: Source, order: ReleaseOrder, path: Path, pause_s: float) -> None:
    with path.open("ab") as file:
        if file.tell() > order.bytes:
            file.truncate(0)
    _check_room(order, path)
    failures = 0
    while (have := path.stat().st_size) < order.bytes:
        try:
            _append(source, order, path, have)
        except EnrolmentError as error:
            failures = failures + 1 if path.stat().st_size == have else 0
            if failures >= ATTEMPTS:
                raise
            LOGGER.warning("%s: %s; %d of %d bytes are here", order.name, error, path.stat().st_size, order.bytes)
            time.sleep(pause_s)


def _append(source: Source, order: ReleaseOrder, path: Path, have: int) -> None:
    """Until the source ends. One that ends early, as a lost connection may seem, is an EnrolmentError."""
    with path.open("r+b") as file:
        end = have
        for place, chunk in source(order.name, have):
            if place + len(chunk) > order.bytes:
                raise FetchError(f"{order.name} should have {order.bytes} bytes, the gateway sends more: make it anew")
            file.seek(place)
            file.write(chunk)
            end = place + len(chunk)
        file.truncate(end)
        file.flush()
        os.fsync(file.fileno())
    if end < order.bytes:
        raise EnrolmentError(f"{order.name} ended after {end} of {order.bytes} bytes; the next attempt goes on there")


def _check_room(order: ReleaseOrder, path: Path) -> None:
    # Once for what comes, twice for what is made of it: unpacked, and installed.
    needed_bytes = 3 * order.bytes - path.stat().st_size + SPARE_BYTES
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < needed_bytes:
        raise FetchError(f"{order.name} needs {needed_bytes} bytes of disk, {free_bytes} are free: make some room")
