"""Labelled data for a fleet: load it, split it over clients, write it to files."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from deploy import published
from deploy.fetch.fetch import cache_folder, require
from edge_agent.data import Example, read_examples
from edge_agent.wire.errors import ConfigError, DataError
from edge_agent.wire.topics import check_name

PUBLISHED = {"excavators": published.excavators, "20newsgroups": published.newsgroups}
MIN_CLIENT_ROWS = 2


@dataclass(frozen=True)
class Dataset:
    """Labelled texts with a common test set; `classes` are the labels of the training part, sorted."""

    name: str
    train: list[Example]
    test: list[Example]
    classes: tuple[str, ...]


def load_dataset(name_or_folder: str, cache: Path | None = None) -> Dataset:
    """A fetched data set by its name, else the folder of that path with `train.jsonl[.gz]` and `test.jsonl[.gz]`.

    Raises:
        DataError: neither a name nor a folder, a file that is missing or malformed, a test label that training lacks,
            or fewer than two classes.
        FetchError: a published set that was not fetched into `cache` (default: the user's cache).
    """
    if name_or_folder in PUBLISHED:
        train, test = PUBLISHED[name_or_folder](require(name_or_folder, cache or cache_folder()))
        return Dataset(name_or_folder, train, test, _classes(train))
    folder = Path(name_or_folder)
    if not folder.is_dir():
        raise DataError(
            f"{name_or_folder} is neither a folder nor a data set: expected {', '.join(PUBLISHED)}, or a folder with "
            "train.jsonl[.gz] and test.jsonl[.gz]"
        )
    return _load_folder(folder)


def sample(examples: list[Example], limit: int) -> list[Example]:
    """At most `limit` examples (0: all), always the same: a file may be ordered by class, a hash is not."""
    if not 0 < limit < len(examples):
        return examples
    return sorted(examples, key=lambda example: hashlib.sha256(example.text.encode()).digest())[:limit]


def split_clients(
    dataset: Dataset, *, how: Literal["client", "dirichlet"], clients: int, alpha: float, seed: int
) -> dict[str, list[Example]]:
    """The training part dealt to named clients, each in the order of the data set.

    `client`: by the examples' own clients, their names made fit for a topic; the first `clients` by name where there
    are more. `dirichlet`: label skew; for every class the shares of the clients are drawn from a symmetric Dirichlet
    distribution of parameter `alpha` (Yurochkin et al., arXiv 1905.12022; for the skew see Hsu et al.,
    arXiv 1909.06335); then, so that no client is left with fewer than two rows, rows move one at a time from the
    largest client to the smallest.

    The Dirichlet draws are numpy's, which may differ between its versions: a split is made once, on one machine, and
    travels as files.

    Raises:
        ConfigError: `clients` or `alpha` is out of range, there are fewer clients or rows than asked for, or a client's
            name cannot be made fit for a topic.
        DataError: a split by client of examples without one, or with two clients of one name.
    """
    if clients < 1:
        raise ConfigError(f"a split needs at least 1 client, got {clients}")
    if how == "client":
        return _by_client(dataset, clients)
    return _by_dirichlet(dataset, clients, alpha, seed)


def write_jsonl(path: Path, examples: Iterable[Example]) -> None:
    """Writes examples as JSON Lines, with gzip if `path` ends in `.gz`; the file appears whole or not at all, and
    only its owner can read it.

    Raises:
        DataError: it cannot be written.
    """
    data = msgspec.json.Encoder().encode_lines(examples)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}): choose another folder or free space") from error


def _load_folder(folder: Path) -> Dataset:
    train = read_examples(_part(folder, "train"), None)
    classes = _classes(train)
    if len(classes) < 2:
        raise DataError(f"{folder}: the training part has {len(classes)} class; expected at least two to tell apart")
    return Dataset(folder.resolve().name, train, read_examples(_part(folder, "test"), classes), classes)


def _part(folder: Path, part: str) -> Path:
    found = [path for path in (folder / f"{part}.jsonl", folder / f"{part}.jsonl.gz") if path.exists()]
    if len(found) != 1:
        raise DataError(f"{folder}: expected either {part}.jsonl or {part}.jsonl.gz, found {len(found) or 'none'}")
    return found[0]


def _classes(examples: Sequence[Example]) -> tuple[str, ...]:
    return tuple(sorted({example.label for example in examples}))


def _by_client(dataset: Dataset, clients: int) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = {}
    for example in dataset.train:
        if not example.client:
            raise DataError(
                f"{dataset.name}: not every training example names its client; split it by Dirichlet instead"
            )
        groups.setdefault(example.client, []).append(example)
    if len(groups) < clients:
        raise ConfigError(
            f"the clients of {dataset.name} number {len(groups)}, {clients} were asked for: ask for fewer"
        )
    names = {client: _topic_name(client) for client in sorted(groups)[:clients]}
    if len(set(names.values())) < len(names):
        raise DataError(f"{dataset.name}: two clients get the same name for a topic: rename one of {sorted(names)}")
    return {name: groups[client] for client, name in names.items()}


def _topic_name(client: str) -> str:
    return check_name(re.sub("[^A-Za-z0-9_.-]+", "-", client).strip("_.-"), f"the client {client!r}")


def _by_dirichlet(dataset: Dataset, clients: int, alpha: float, seed: int) -> dict[str, list[Example]]:
    if not 0 < alpha < math.inf:
        raise ConfigError(f"the Dirichlet parameter alpha must be a number above 0, got {alpha}")
    if len(dataset.train) < MIN_CLIENT_ROWS * clients:
        raise ConfigError(
            f"{dataset.name} has {len(dataset.train)} training rows, too few for {clients} clients of at least "
            f"{MIN_CLIENT_ROWS} each: ask for fewer clients"
        )
    generator = np.random.Generator(np.random.Philox(seed))
    labels = np.array([dataset.classes.index(example.label) for example in dataset.train])
    dealt: list[list[int]] = [[] for _ in range(clients)]
    for label in range(len(dataset.classes)):
        rows = generator.permutation(np.flatnonzero(labels == label))
        for client, piece in enumerate(np.split(rows, _cuts(generator, clients, alpha, len(rows)))):
            dealt[client].extend(piece.tolist())
    _fill_up(dealt)
    digits = len(str(clients))
    return {
        f"client-{number:0{digits}}": [dataset.train[row] for row in sorted(rows)]
        for number, rows in enumerate(dealt, start=1)
    }


def _cuts(generator: np.random.Generator, clients: int, alpha: float, rows: int) -> npt.NDArray[np.int64]:
    """Where to cut the `rows` of one class into a piece for each client."""
    shares = generator.dirichlet(np.full(clients, alpha))
    return np.round(np.cumsum(shares[:-1]) * rows).astype(np.int64)


def _fill_up(dealt: list[list[int]]) -> None:
    """Moves rows from the largest client to the smallest, the first of equals, until none has too few."""
    while len(smallest := min(dealt, key=len)) < MIN_CLIENT_ROWS:
        smallest.append(max(dealt, key=len).pop())


def _write_atomically(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
