"""What an updater keeps on disk between its runs: the order that it follows, and the report that is to be delivered.

Both are written whole or not at all. The report is written before the order is dropped, so an order without a report is
one whose end is not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from edge_agent.wire import durable
from edge_agent.wire.errors import StoreError
from edge_agent.wire.malformed import MALFORMED
from edge_agent.wire.updates import ReleaseOrder, UpdateReport

T = TypeVar("T")


class Spool:
    """The folder, which belongs to root alone. Every method raises StoreError where it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._order = folder / "order.json"
        self._report = folder / "report.json"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _unusable(folder, error) from error

    def order(self) -> ReleaseOrder | None:
        """The order whose end is not known."""
        return None if self._report.exists() else self._read(self._order, ReleaseOrder)

    def begin(self, order: ReleaseOrder) -> None:
        """Notes that an order is about to be followed."""
        self._write(self._order, msgspec.json.encode(order))

    def report(self) -> UpdateReport | None:
        """The report that the gateway does not have yet."""
        return self._read(self._report, UpdateReport)

    def finish(self, report: UpdateReport) -> None:
        """Notes how the order ended."""
        self._write(self._report, msgspec.json.encode(report))
        self._drop(self._order)

    def delivered(self) -> None:
        """Forgets the report: the gateway has it."""
        self._drop(self._order)
        self._drop(self._report)

    def _read(self, path: Path, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from error
        except MALFORMED as error:
            raise StoreError(f"{path} cannot be read ({error}): delete it; the gateway says it again") from error

    def _write(self, path: Path, data: bytes) -> None:
        try:
            durable.write(path, data)
        except OSError as error:
            raise _unusable(path, error) from error

    def _drop(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            durable.sync_folder(self.folder)
        except OSError as error:
            raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be used: {error}; be root, and check free space")
