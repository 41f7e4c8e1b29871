"""Reads a device's own labelled texts.

The data must not leave the board, and errors travel to the coordinator: so an error names the file, the line and the
field, never anything that stands in the data; and what travels of it, `DataError.told`, does without the file's name.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from edge_agent.wire.errors import DataError
from edge_agent.wire.malformed import MALFORMED

LOGGER = logging.getLogger("rankfleet.trainer")
MIN_ROWS_FOR_HOLDOUT = 8
LINE_LIMIT_BYTES = 2**24
"""No line is longer: a damaged or hostile file must not fill the memory, least of all a compressed one."""
_CLASSES_SHOWN = 12


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """One labelled text; `client` says whose it is, where the data come divided already."""

    text: str
    label: Annotated[str, Meta(max_length=128)]
    client: Annotated[str, Meta(max_length=128)] | None = None


class Exceptions(msgspec.Struct, frozen=True):
    """Texts, by `digest`, that were put on a side against their draw, and stay there whatever comes later."""

    held: tuple[bytes, ...] = ()
    trained: tuple[bytes, ...] = ()


class Parts(NamedTuple):
    """Training examples and hold-out, each in the order given, and what a later split must know."""

    train: list[Example]
    holdout: list[Example]
    exceptions: Exceptions


def read_examples(path: Path, classes: tuple[str, ...] | None) -> list[Example]:
    """The examples of a `.jsonl` or `.csv` file, also with `.gz` behind it; UTF-8.

    JSON Lines: one object a line with `text`, `label` and perhaps `client`; other fields and empty lines are passed
    over. CSV: a header line with the same names. `classes` are the labels allowed; None allows all.

    Raises:
        DataError: the file is missing, empty or not readable, or a line of it is not a labelled text; names the first
            such line.
    """
    examples = list(_checked(path, classes, growing=False))
    if not examples:
        raise _wrong(path, " is empty: expected at least one line with a text and its label")
    return examples


def read_growing(path: Path, classes: tuple[str, ...] | None) -> list[Example]:
    """As `read_examples`, of a file that may still be written: a last line without its line break, or a compressed
    stream without its end, is left for a later time, and none of its lines need be there yet."""
    return list(_checked(path, classes, growing=True))


def check_example(example: Example, classes: tuple[str, ...] | None) -> str | None:
    """What is wrong with an example whose fields have the right types; None if nothing is."""
    for field, value in (("text", example.text), ("label", example.label)):
        if not value.strip():
            return f"the field '{field}' is blank: expected a {field}"
    if classes is not None and example.label not in classes:
        return f"the field 'label' names no class of this fleet, which are: {_abbreviated(classes)}"
    return None


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
    train, holdout, _ = split_again(examples, share=share, seed=seed, known=Exceptions())
    return train, holdout


def split_again(examples: Sequence[Example], *, share: float, seed: int, known: Exceptions) -> Parts:
    """As `split_holdout`, of data that were split before: those promises made the exceptions that are `known`.

    While rows are only added, none that was held out is ever trained, and none that was trained is held out, except the
    one that is taken when there are rows enough for a hold-out.

    Raises:
        DataError: there are no examples.
    """
    if not examples:
        raise DataError("no examples to split: expected at least one")
    draws = {example.text: _draw(example.text, seed) for example in examples}
    kept_held, kept_trained = set(known.held), set(known.trained)
    held = {text for text, draw in draws.items() if draw < share}
    if kept_held or kept_trained:
        digests = {text: digest(text) for text in draws}
        held |= {text for text in draws if share and digests[text] in kept_held}
        held -= {text for text in draws if digests[text] in kept_trained}
    if len(held) == len(draws):
        most = max(draws, key=draws.__getitem__)
        held.remove(most)
        kept_trained.add(digest(most))
        kept_held.discard(digest(most))
    if share and not held and len(examples) >= MIN_ROWS_FOR_HOLDOUT and len(draws) > 1:
        least = min(draws, key=draws.__getitem__)
        held.add(least)
        kept_held.add(digest(least))
        kept_trained.discard(digest(least))
    train = [example for example in examples if example.text not in held]
    exceptions = Exceptions(tuple(sorted(kept_held)), tuple(sorted(kept_trained)))
    return Parts(train, [example for example in examples if example.text in held], exceptions)


def digest(text: str) -> bytes:
    """By which a text is known again."""
    return hashlib.sha256(text.encode()).digest()


def _draw(text: str, seed: int) -> float:
    """A number in [0, 1) that follows from `text` and `seed` alone."""
    return int.from_bytes(digest(f"{seed}\n{text}")[:6], "big") / 2**48


def _checked(path: Path, classes: tuple[str, ...] | None, *, growing: bool) -> Iterator[Example]:
    for number, example in _parser(path)(path, growing):
        problem = check_example(example, classes)
        if problem:
            raise _wrong(path, f": {problem}", number)
        yield example


def _wrong(path: Path, problem: str, line: int | None = None) -> DataError:
    at = "" if line is None else f", line {line}"
    return DataError(f"{path}{at}{problem}", f"a data file{at}{problem}")


def _abbreviated(classes: tuple[str, ...]) -> str:
    shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in classes[:_CLASSES_SHOWN])
    return shown if len(classes) <= _CLASSES_SHOWN else f"{shown}, ... ({len(classes)} in all)"


Numbered = Iterator[tuple[int, Example]]


def _parser(path: Path) -> Callable[[Path, bool], Numbered]:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    parsers = {".jsonl": _parse_jsonl, ".csv": _parse_csv}
    if suffix not in parsers:
        raise _wrong(path, ": expected a name that ends in .jsonl or .csv, perhaps with .gz behind it")
    return parsers[suffix]


def _parse_jsonl(path: Path, growing: bool) -> Numbered:
    decoder = msgspec.json.Decoder(Example)
    for number, line in _lines(path, growing):
        if line.strip():
            try:
                yield number, decoder.decode(line)
            except MALFORMED as error:
                expected = 'expected an object like {"text": "...", "label": "..."}'
                raise _wrong(path, f": {error}; {expected}", number) from None


def _parse_csv(path: Path, growing: bool) -> Numbered:
    reader = csv.reader((line for _, line in _lines(path, growing)), strict=True)
    try:
        header = next(reader, [])
        if header and not {"text", "label"} <= set(header):
            raise _wrong(path, ": expected a header with 'text' and 'label'", 1)
        for cells in reader:
            if cells:
                yield reader.line_num, _example(path, reader.line_num, header, cells)
    except csv.Error as error:
        if growing and "unexpected end of data" in str(error):  # inside of quotes, which may hold line breaks
            LOGGER.warning("%s, line %d: not whole yet, and read when it is", path, reader.line_num)
            return
        raise _wrong(path, f": not CSV: {error}", reader.line_num) from None


def _example(path: Path, number: int, header: list[str], cells: list[str]) -> Example:
    if len(cells) != len(header):
        raise _wrong(path, f": expected {len(header)} fields, as in the header, got {len(cells)}", number)
    fields = dict(zip(header, cells, strict=True))
    if not fields.get("client"):
        fields.pop("client", None)
    try:
        return msgspec.convert(fields, Example)
    except msgspec.ValidationError as error:
        raise _wrong(path, f": {error}", number) from None


def _lines(path: Path, growing: bool) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers from 1, its byte order mark removed; of a `growing` one those that are
    whole."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(LINE_LIMIT_BYTES + 1):
                number += 1
                if len(line) > LINE_LIMIT_BYTES:
                    raise _wrong(path, f": longer than {LINE_LIMIT_BYTES} bytes: one example a line", number)
                if growing and not line.endswith(b"\n"):
                    LOGGER.warning("%s, line %d: not whole yet, and read when it is", path, number)
                    return
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise _wrong(path, ": not UTF-8: save the file as UTF-8", number) from None
    except EOFError:
        if not growing:
            raise _wrong(path, f": damaged gzip file behind line {number}: it ends too early; copy it again") from None
        LOGGER.warning("%s: not whole yet behind line %d, and read when it is", path, number)
    except (zlib.error, gzip.BadGzipFile):  # their messages may quote the file
        raise _wrong(path, f": damaged gzip file behind line {number}: not gzip; copy it again") from None
    except OSError as error:
        raise _wrong(path, f": cannot be read ({error.strerror}): check the path") from error
