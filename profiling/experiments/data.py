"""The data of one run: texts as tokens, dealt to clients, with what the frozen blocks make of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from deploy.datasets import Dataset, load_dataset, sample, split_clients
from edge_agent.data import Example
from edge_agent.engine.protocol import Batch
from edge_agent.examples import Tokens, tokenise
from edge_agent.prefix import FrozenPrefix
from edge_agent.tokenise import Tokeniser

from .settings import Run


@dataclass(frozen=True)
class Share:
    """What one client has: its tokens, and their places among those of the whole data set."""

    tokens: Tokens
    places: tuple[int, ...]


@dataclass(frozen=True)
class Corpus:
    """`everything` is the training part and, behind it, the sample of the test part."""

    classes: tuple[str, ...]
    everything: Tokens
    clients: tuple[Share, ...]
    test: Share


@dataclass(frozen=True)
class SharedStates:
    """The states of the frozen blocks for a client's batches, from those that all clients and runs share."""

    prefix: FrozenPrefix
    places: tuple[int, ...]

    def of(self, batch: Batch, chosen: Sequence[int]) -> Batch:
        """See `trainer.KnownStates`."""
        return self.prefix.of(batch, [self.places[one] for one in chosen])


def dataset_sha256(name_or_folder: str) -> str:
    """A digest of all texts and labels. Raises as `load_dataset`."""
    dataset = load_dataset(name_or_folder)
    encoder = msgspec.json.Encoder()
    parts = (encoder.encode_lines(part) for part in (dataset.train, dataset.test))
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def load_corpus(name_or_folder: str, run: Run, tokeniser: Tokeniser) -> Corpus:
    """The data that `run` trains and evaluates on.

    Raises:
        DataError: the data set cannot be read.
        ConfigError: it cannot be split as `run` asks.
    """
    dataset = load_dataset(name_or_folder)
    test = sample(dataset.test, run.profile.test_rows)
    everything = tokenise([*dataset.train, *test], tokeniser, dataset.classes)
    rows = _places(dataset.train)
    dealt = _split(dataset, run)
    clients = tuple(_share(everything, [rows[id(one)] for one in part]) for part in dealt)
    held = range(len(dataset.train), len(everything))
    return Corpus(dataset.classes, everything, clients, _share(everything, held))


def _split(dataset: Dataset, run: Run) -> list[list[Example]]:
    """By client, each as often as the profile's number of clients asks, or by the Dirichlet distribution."""
    how, alpha = ("client", 1.0) if run.alpha is None else ("dirichlet", run.alpha)
    split = split_clients(dataset, how=how, clients=run.profile.clients, alpha=alpha, seed=run.seed)  # type: ignore[arg-type]
    return list(split.values())


def _places(examples: Sequence[Example]) -> dict[int, int]:
    """Places by identity: a split deals the very objects, and texts may occur twice."""
    return {id(example): place for place, example in enumerate(examples)}


def _share(everything: Tokens, places: Sequence[int]) -> Share:
    labels: npt.NDArray[np.int32] = everything.labels[np.asarray(places)]
    return Share(Tokens(tuple(everything.ids[one] for one in places), labels), tuple(places))


def states_folder(cache: Path, run: Run, block: int) -> Path:
    """Where the states before `block` are kept, for all runs of one model, data set and text length."""
    name = f"{run.pack_sha256[:8]}-{run.dataset_sha256[:8]}-{run.options.training.max_tokens}-{block}"
    return cache / "states" / f"{name}-{run.profile.test_rows}"
