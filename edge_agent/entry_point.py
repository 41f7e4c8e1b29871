"""Examples that come from a function of the board's owner (`data = "python:package.module:function"`).

It runs in the trainer process alone, whenever the data are read. Errors tell where it failed, never what it said: that
may hold a text. What it prints goes nowhere, for the same reason.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.data import Example, check_example
from edge_agent.data_files import EntryPoint
from edge_agent.privacy import mute, place
from edge_agent.wire.errors import DataError

_PAIR = 2


def read_entry_point(entry: EntryPoint, folder: Path | None, classes: tuple[str, ...] | None) -> list[Example]:
    """The examples that `entry` gives: pairs of text and label, or mappings with `text`, `label` and perhaps `client`.

    Modules are looked for in `folder` first, then among what is installed.

    Raises:
        DataError: it cannot be imported, fails, gives nothing, or gives what is no labelled text; names the entry point
            and the row.
    """
    examples: list[Example] = []
    try:
        with mute():
            examples.extend(_example(row, classes) for row in _rows(entry, folder))
    except _NoExampleError as error:
        raise _wrong(entry, f", row {len(examples) + 1}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever the function of somebody else may raise
        said = f" failed behind row {len(examples)}: {type(error).__name__}"
        raise _wrong(entry, said, f" at {place(error)}; its message is kept back, for it may hold a text") from None
    if not examples:
        raise _wrong(entry, " gives no examples: expected at least one text with its label")
    return examples


class _NoExampleError(Exception):
    """Something that is no labelled text; says why, and nothing of what it is."""


def _rows(entry: EntryPoint, folder: Path | None) -> Iterable[Any]:
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    function = getattr(importlib.import_module(entry.module), entry.function)
    return iter(function())


def _example(row: Any, classes: tuple[str, ...] | None) -> Example:
    if isinstance(row, tuple | list) and len(row) == _PAIR:
        row = {"text": row[0], "label": row[1]}
    if not isinstance(row, Mapping):
        raise _NoExampleError("expected a pair of text and label, or a mapping with 'text' and 'label'")
    try:
        example = msgspec.convert(dict(row), Example)
        example.text.encode()
    except msgspec.ValidationError as error:
        raise _NoExampleError(str(error)) from None
    except UnicodeEncodeError:
        raise _NoExampleError("the field 'text' holds half of a surrogate pair: expected whole characters") from None
    problem = check_example(example, classes)
    if problem:
        raise _NoExampleError(problem)
    return example


def _wrong(entry: EntryPoint, problem: str, on_the_board: str = "") -> DataError:
    return DataError(f"{entry}{problem}{on_the_board}", f"the data entry point{problem}")
