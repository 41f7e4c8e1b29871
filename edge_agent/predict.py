"""What the kept model says of texts: by the agent's own engine, from its pack and its state. Needs no torch.

A text's answer lists every class with its probability, the most probable first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.engine.choice import Choice
from edge_agent.engine.protocol import Batch
from edge_agent.fetching import Fetcher
from edge_agent.store import Store
from edge_agent.tokenise import Tokeniser
from edge_agent.wire import messages as m
from edge_agent.wire.cost import bucket
from edge_agent.wire.errors import DataError, StoreError
from edge_agent.wire.ranks import compact
from edge_agent.workspace import LocalModel

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

DATABASE = "agent.db"
# The agent may be training beside this: few texts at once, one at a time through the blocks.
_TEXTS_AT_ONCE = 16
_MICRO_BATCH = 1


class Guess(NamedTuple):
    """One class and its probability."""

    label: str
    probability: float


Answer = list[Guess]
Logits = Callable[[Int32, Int32], Float32]
"""`(input_ids, attention_mask)`, both (batch, tokens), to logits (batch, classes)."""


def predict(state_dir: Path, texts: Sequence[str], *, threads: int = 1) -> list[Answer]:
    """Answers of the model in an agent's state folder, which is only read: the agent may be running.

    Raises:
        StoreError: there is no agent's database, or no model that a round has trained yet.
        PackError: the agent's pack is incomplete.
        DataError: a text is empty.
    """
    store = Store(state_dir / DATABASE, read_only=True)
    try:
        return _predict(store, state_dir, texts, threads)
    finally:
        store.close()


def answer(texts: Sequence[str], tokeniser: Tokeniser, classes: Sequence[str], logits: Logits) -> list[Answer]:
    """The answer to each text, given what computes logits.

    Raises:
        DataError: a text is empty, or there is none.
    """
    _check_texts(texts)
    return [_ranked(row, classes) for batch in _batches(texts, tokeniser) for row in logits(*batch)]


def _predict(store: Store, state_dir: Path, texts: Sequence[str], threads: int) -> list[Answer]:
    welcome = store.value("welcome", m.Welcome)
    if welcome is None or store.version() == 0:
        raise StoreError(
            f"the agent of {state_dir} has no model yet: it gets one when the fleet's first round is closed and it "
            "takes part in the next, or at the end of the run"
        )
    pack_dir = Fetcher(state_dir).pack_dir(welcome.pack.sha256)
    model = LocalModel(store, welcome, pack_dir, Choice(threads))
    state = model.state()
    rows = compact(model.layout, state.rows, state.mask)
    return answer(
        texts,
        model.tokeniser(model.max_tokens),
        welcome.classes,
        lambda ids, mask: model.engine.logits(Batch(ids, mask), rows, micro_batch=_MICRO_BATCH),
    )


def _check_texts(texts: Sequence[str]) -> None:
    if not texts:
        raise DataError("there is no text to predict for: give at least one")
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise DataError(f"text {number} of {len(texts)} is empty: give it words, or leave it out")


def _batches(texts: Sequence[str], tokeniser: Tokeniser) -> Iterator[tuple[Int32, Int32]]:
    ids = tokeniser.encode(texts)
    for start in range(0, len(ids), _TEXTS_AT_ONCE):
        part = ids[start : start + _TEXTS_AT_ONCE]
        yield tokeniser.collate(part, bucket(max(map(len, part)), tokeniser.buckets))


def _ranked(logits: Float32, classes: Sequence[str]) -> Answer:
    """Classes by probability, the softmax of `logits (classes,)`; ties of those in the order of the classes."""
    exponentials = np.exp(logits - logits.max(), dtype=np.float64)
    probabilities = exponentials / exponentials.sum()
    return [Guess(classes[i], float(probabilities[i])) for i in np.argsort(-logits, kind="stable")]
