"""The published data sets, as labelled texts out of their fetched files. The checksums stand for the files' form."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from edge_agent.data import Example

EXCAVATOR_SYSTEMS = frozenset(
    {
        "Bucket",
        "Engine",
        "Final Drive",
        "Hydraulic Cylinders",
        "Hydraulic System",
        "Induction and Exhaust",
        "Radiator",
        "Superstructure",
        "Turbochargers",
    }
)
TEST_SHARE = 0.2
NEWSGROUPS_MAX_CHARACTERS = 2000

_NEWSGROUPS_HEADER_ROWS = 3


def excavators(folder: Path) -> tuple[list[Example], list[Example]]:
    """Work orders of five excavators, by the system that they concern: train and test, in the file's order.

    `MajorSystem` joins several systems with '_' or is 'NA'; only rows of exactly one of the nine systems count, 2,697
    of 5,485. Texts that differ in case only are one text, 2,109 in all: its first row in the file gives its spelling,
    system and machine, so a text is one machine's (some 60 were written for several, two got two systems). A text is in
    the common test set when the first 8 bytes of the sha256 of its lower case lie in the lowest fifth. The client is
    the machine (`Asset`, A to E).
    """
    with (folder / "excavators-cleaned.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["MajorSystem"] in EXCAVATOR_SYSTEMS]
    distinct: dict[str, Example] = {}
    for row in rows:
        text = row["OriginalShorttext"]
        distinct.setdefault(text.lower(), Example(text, row["MajorSystem"], row["Asset"]))
    train = [example for key, example in distinct.items() if not _in_test(key)]
    return train, [example for key, example in distinct.items() if _in_test(key)]


def newsgroups(folder: Path) -> tuple[list[Example], list[Example]]:
    """20 Newsgroups, each text cut to its first 2,000 characters: train and test, in the files' order."""
    train, test = (_orange_table(folder / f"20newsgroups-{part}.tab") for part in ("train", "test"))
    return train, test


def _in_test(key: str) -> bool:
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") < TEST_SHARE * 2**64


def _orange_table(path: Path) -> list[Example]:
    """Rows of an Orange table: three rows of header, then class and text with a tab between, no quoting."""
    lines = path.read_text(encoding="utf-8").split("\n")[_NEWSGROUPS_HEADER_ROWS:]
    rows = (line.split("\t") for line in lines if line)
    return [Example(text[:NEWSGROUPS_MAX_CHARACTERS], label) for label, text in rows]
