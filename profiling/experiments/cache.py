"""The folder of results: one JSON file a finished run, named by the run's key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.wire.errors import StoreError
from edge_agent.wire.malformed import MALFORMED
from profiling.files import write_atomically

from .record import Result


def load_all(folder: Path, complain: Callable[[str], None]) -> dict[str, Result]:
    """All results in `folder`, by the key of their run; empty where there is no such folder.

    A file that holds no result is left alone, but told to `complain`: its run counts as missing. The key is that of
    the run as this version of the software knows it: a setting that is newer than a result has its default there.

    Raises:
        StoreError: a file cannot be read.
    """
    results = {}
    for path in sorted(folder.glob("*.json")):
        result = _read(path, complain)
        if result is not None:
            results[result.run.key] = result
    return results


def save(folder: Path, result: Result) -> Path:
    """Keeps `result` in `folder`, which is made where it is missing: the file appears whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    path = folder / f"{result.run.key}.json"
    write_atomically(path, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return path


def _read(path: Path, complain: Callable[[str], None]) -> Result | None:
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    except MALFORMED as error:
        complain(f"{path} is not a result of this version ({error}): its run counts as missing")
        return None
    if not result.rounds or result.rounds[-1].accuracy is None:
        complain(f"{path} is a result without a final accuracy: its run counts as missing")
        return None
    return result
