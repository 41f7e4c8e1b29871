"""Local examples as arrays of tokens, and the batches made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.data import Example, read_examples, read_growing
from edge_agent.data_files import data_files, entry_point_of
from edge_agent.engine.protocol import Batch
from edge_agent.entry_point import read_entry_point
from edge_agent.tokenise import Tokeniser
from edge_agent.wire.cost import bucket
from edge_agent.wire.errors import DataError
from edge_agent.wire.rng import generator

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Tokens:
    """Tokenised examples: ids as int32 arrays of their own length, labels int32 `(examples,)`."""

    ids: tuple[Int32, ...]
    labels: Int32

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def longest(self) -> int:
        """Tokens of the longest example; 0 if there are none."""
        return max(map(len, self.ids), default=0)


SPLIT_SEED = 0
"""Of the split into training and hold-out, which depends on the texts alone."""


def read_local(data: Path, classes: tuple[str, ...], data_path: Path | None = None) -> list[Example]:
    """All examples of a device: of its file, of the files of its folder by name, or of its entry point.

    A file of a folder may still be written (see `data.read_growing`).

    Raises:
        DataError: names the file and the line, or the entry point and the row.
    """
    entry = entry_point_of(data)
    if entry is not None:
        return read_entry_point(entry, data_path, classes)
    if not data.is_dir():
        return read_examples(data, classes)
    try:
        files = data_files(data)
    except OSError as error:
        raise DataError(
            f"{data}: cannot be read ({error.strerror}): check its permissions",
            f"the data folder cannot be read ({error.strerror})",
        ) from error
    examples = [example for path in files for example in read_growing(path, classes)]
    if not examples:
        raise DataError(
            f"{data} has no examples yet: put .jsonl or .csv files there, each line with its line break",
            f"the data folder has no examples yet, in {len(files)} files",
        )
    return examples


def tokenise(examples: Sequence[Example], tokeniser: Tokeniser, classes: tuple[str, ...]) -> Tokens:
    """`examples` as tokens, labels as places in `classes`."""
    place = {name: index for index, name in enumerate(classes)}
    ids = tuple(np.array(one, np.int32) for one in tokeniser.encode([example.text for example in examples]))
    return Tokens(ids, np.array([place[example.label] for example in examples], np.int32))


def make_batch(tokens: Tokens, chosen: Sequence[int], tokeniser: Tokeniser) -> Batch:
    """The examples at the places `chosen`, padded to the bucket of the longest."""
    ids = [tokens.ids[i] for i in chosen]
    input_ids, attention_mask = tokeniser.collate(ids, bucket(max(map(len, ids)), tokeniser.buckets))
    return Batch(input_ids, attention_mask, tokens.labels[np.asarray(chosen)])


def shuffled(count: int, batch: int, steps: int, seed: int, *path: int | str) -> Iterator[list[int]]:
    """`steps` batches of places; every epoch is a permutation of its own, drawn from `(seed, *path, epoch)`."""
    order: list[int] = []
    epoch = 0
    for _ in range(steps):
        if not order:
            order = generator(seed, *path, epoch).permutation(count).tolist()
            epoch += 1
        yield order[:batch]
        order = order[batch:]


def by_length(tokens: Tokens, batch: int) -> Iterator[list[int]]:
    """All places, the longest examples first: little is padded, and memory laid out for the first holds the rest."""
    order = sorted(range(len(tokens)), key=lambda i: -len(tokens.ids[i]))
    return (order[start : start + batch] for start in range(0, len(order), batch))
