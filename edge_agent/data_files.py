"""What the setting `data` means: a file, a folder of files, or an entry point; and whether files have changed.

The supervisor asks here, so no file is opened and no entry point is called; times of change are compared only with
each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_agent.wire.errors import ConfigError

PREFIX = "python:"
_SPELLED = re.compile(r"python:([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
SUFFIXES = (".jsonl", ".csv", ".jsonl.gz", ".csv.gz")
Stamps = tuple[tuple[str, int, int], ...]
"""Name, bytes and time of change in nanoseconds of every data file."""


class EntryPoint(NamedTuple):
    """A function in a module; it takes nothing and gives an iterable of examples."""

    module: str
    function: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.module}:{self.function}"


def entry_point_of(data: Path) -> EntryPoint | None:
    """The entry point that the setting `data` names; None where it is a path.

    Raises:
        ConfigError: it begins like an entry point and is none.
    """
    if not str(data).startswith(PREFIX):
        return None
    found = _SPELLED.fullmatch(str(data))
    if found is None:
        raise ConfigError(f"data: expected python:package.module:function, got {str(data)!r}")
    return EntryPoint(found[1], found[2])


def data_files(data: Path) -> list[Path]:
    """The files of `data` by name: itself, or those of a folder whose names end in `SUFFIXES` and do not begin with a
    dot. None where `data` is an entry point.

    A file that is being copied is left out while its name ends otherwise, as in `.part` or `.tmp`. Folders below are
    not looked into.

    Raises:
        OSError: the folder cannot be read.
    """
    if entry_point_of(data) is not None:
        return []
    if not data.is_dir():
        return [data]
    names = sorted(entry.name for entry in _entries(data) if entry.name.endswith(SUFFIXES) and entry.is_file())
    return [data / name for name in names if not name.startswith(".")]


def stamps(data: Path) -> Stamps:
    """What tells whether the files of `data` have changed; what cannot be looked at is left out."""
    try:
        files = data_files(data)
    except OSError:
        return ()
    return tuple(_stamped(files))


class Changes:
    """Looks every `every_s` seconds whether the files of `data` are other than when they were last read; 0: never."""

    def __init__(self, data: Path, every_s: float) -> None:
        self._data = data
        self._every_s = every_s
        self._due_s = float("-inf")
        self._read: Stamps = ()
        self._reading: Stamps = ()

    def reading(self) -> None:
        """The files begin to be read: what changes from now on is a change."""
        self._reading = stamps(self._data)

    def read(self) -> None:
        """They were read to the end, or could not be."""
        self._read = self._reading

    def found(self, now_s: float) -> bool:
        """Whether they have changed, as far as was looked; `now_s` is monotonic."""
        if not self._every_s or now_s < self._due_s:
            return False
        self._due_s = now_s + self._every_s
        return stamps(self._data) != self._read


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _stamped(files: list[Path]) -> Iterator[tuple[str, int, int]]:
    for path in files:
        try:
            found = path.stat()
        except OSError:
            continue
        yield path.name, found.st_size, found.st_mtime_ns
