"""Reads a device's own labelled texts.

The data must not leave the board, and errors travel to the coordinator: so an error names the file, the line and the
field, never anything that stands in the data.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_agent.wire.errors import DataError
from edge_agent.wire.malformed import MALFORMED

MIN_ROWS_FOR_HOLDOUT = 8
LINE_LIMIT_BYTES = 2**24
"""No line is longer: a damaged or hostile file must not fill the memory, least of all a compressed one."""
_CLASSES_SHOWN = 12


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """One labelled text; `client` says whose it is, where the data come divided already."""

    text: str
    label: Annotated[str, Meta(max_length=128)]
    client: Annotated[str, Meta(max_length=128)] | None = None


def read_examples(path: Path, classes: tuple[str, ...] | None) -> list[Example]:
    """The examples of a `.jsonl` or `.csv` file, also with `.gz` behind it; UTF-8.

    JSON Lines: one object a line with `text`, `label` and perhaps `client`; other fields and empty lines are passed
    over. CSV: a header line with the same names. `classes` are the labels allowed; None allows all.

    Raises:
        DataError: the file is missing, empty or not readable, or a line of it is not a labelled text; names the first
            such line.
    """
    parse = _parser(path)
    examples = []
    for number, example in parse(path):
        problem = _problem(example, classes)
        if problem:
            raise DataError(f"{path}, line {number}: {problem}")
        examples.append(example)
    if not examples:
        raise DataError(f"{path} is empty: expected at least one line with a text and its label")
    return examples


def split_holdout(
    examples: Sequence[Example], *, share: float = 0.15, seed: int
) -> tuple[list[Example], list[Example]]:
    """Training examples and hold-out, each in the order given.

    A text's side follows from its own hash and the seed, about `share` of the texts going to the hold-out: equal texts
    fall on one side, and a row added later moves no other, bar what these promises need: at least one distinct text is
    trained, and with eight rows of at least two distinct texts at least one is held out, unless `share` is 0.

    Raises:
        DataError: there are no examples.
    """
    if not examples:
        raise DataError("no examples to split: expected at least one")
    draws = {example.text: _draw(example.text, seed) for example in examples}
    held = {text for text, draw in draws.items() if draw < share}
    if len(held) == len(draws):
        held.remove(max(draws, key=draws.__getitem__))
    if share and not held and len(examples) >= MIN_ROWS_FOR_HOLDOUT and len(draws) > 1:
        held.add(min(draws, key=draws.__getitem__))
    train = [example for example in examples if example.text not in held]
    return train, [example for example in examples if example.text in held]


def _draw(text: str, seed: int) -> float:
    """A number in [0, 1) that follows from `text` and `seed` alone."""
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _problem(example: Example, classes: tuple[str, ...] | None) -> str | None:
    """What is wrong with an example whose fields have the right types."""
    for field, value in (("text", example.text), ("label", example.label)):
        if not value.strip():
            return f"the field '{field}' is blank: expected a {field}"
    if classes is not None and example.label not in classes:
        return f"the field 'label' names no class of this fleet, which are: {_abbreviated(classes)}"
    return None


def _abbreviated(classes: tuple[str, ...]) -> str:
    shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in classes[:_CLASSES_SHOWN])
    return shown if len(classes) <= _CLASSES_SHOWN else f"{shown}, ... ({len(classes)} in all)"


Numbered = Iterator[tuple[int, Example]]


def _parser(path: Path) -> Callable[[Path], Numbered]:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    parsers = {".jsonl": _parse_jsonl, ".csv": _parse_csv}
    if suffix not in parsers:
        raise DataError(f"{path}: expected a name that ends in .jsonl or .csv, perhaps with .gz behind it")
    return parsers[suffix]


def _parse_jsonl(path: Path) -> Numbered:
    decoder = msgspec.json.Decoder(Example)
    for number, line in _lines(path):
        if line.strip():
            try:
                yield number, decoder.decode(line)
            except MALFORMED as error:
                expected = 'expected an object like {"text": "...", "label": "..."}'
                raise DataError(f"{path}, line {number}: {error}; {expected}") from None


def _parse_csv(path: Path) -> Numbered:
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    try:
        header = next(reader, [])
        if header and not {"text", "label"} <= set(header):
            raise DataError(f"{path}, line 1: expected a header with 'text' and 'label'")
        for cells in reader:
            if cells:
                yield reader.line_num, _example(path, reader.line_num, header, cells)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _example(path: Path, number: int, header: list[str], cells: list[str]) -> Example:
    if len(cells) != len(header):
        raise DataError(f"{path}, line {number}: expected {len(header)} fields, as in the header, got {len(cells)}")
    fields = dict(zip(header, cells, strict=True))
    if not fields.get("client"):
        fields.pop("client", None)
    try:
        return msgspec.convert(fields, Example)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}, line {number}: {error}") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers from 1, its byte order mark removed."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(LINE_LIMIT_BYTES + 1):
                number += 1
                if len(line) > LINE_LIMIT_BYTES:
                    raise DataError(f"{path}, line {number}: longer than {LINE_LIMIT_BYTES} bytes: one example a line")
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}, line {number}: not UTF-8: save the file as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file behind line {number}: {error}; copy it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the path") from error
