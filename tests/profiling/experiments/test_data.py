"""The data of a run: dealt completely, each example to one client, the test part apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.datasets import load_dataset, write_jsonl
from edge_agent.data import Example
from edge_agent.tokenise import Tokeniser
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import TOKENIZER
from profiling.experiments.data import Corpus, SharedStates, dataset_sha256, load_corpus, states_folder
from profiling.experiments.settings import Options, Profile
from tests.experiments import make_run, write_dataset
from tests.models import tiny_pack

TRAIN, TEST = 30, 12
PROFILE = Profile(rounds=6, clients=4, cohort=2, test_rows=TEST)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "words"
    write_dataset(folder, TRAIN)
    return folder


def corpus_of(folder: Path, **changes: Any) -> Corpus:
    run = make_run(**{"profile": PROFILE, **changes})
    return load_corpus(str(folder), run, Tokeniser(tiny_pack() / TOKENIZER, 0, 16))


def dealt(corpus: Corpus) -> list[tuple[int, ...]]:
    return [share.places for share in corpus.clients]


@pytest.mark.parametrize("alpha", [0.01, 1.0])
def test_every_training_example_is_dealt_to_one_client(folder: Path, alpha: float) -> None:
    places = dealt(corpus_of(folder, alpha=alpha))
    assert len(places) == PROFILE.clients
    assert sorted(place for part in places for place in part) == list(range(TRAIN))


def test_shares_hold_the_tokens_and_labels_of_their_places(folder: Path) -> None:
    corpus = corpus_of(folder)
    for share in (*corpus.clients, corpus.test):
        assert share.tokens.ids == tuple(corpus.everything.ids[place] for place in share.places)
        assert np.array_equal(share.tokens.labels, corpus.everything.labels[list(share.places)])


def test_the_test_sample_lies_behind_the_training_part(folder: Path) -> None:
    corpus = corpus_of(folder)
    assert corpus.test.places == tuple(range(TRAIN, TRAIN + TEST))
    assert len(corpus.everything) == TRAIN + TEST
    assert corpus.classes == load_dataset(str(folder)).classes


def test_the_split_follows_the_seed_and_the_test_sample_does_not(folder: Path) -> None:
    first, again, other = (corpus_of(folder, seed=seed) for seed in (1, 1, 2))
    assert dealt(first) == dealt(again) != dealt(other)
    assert np.array_equal(first.test.tokens.labels, other.test.tokens.labels)


def test_without_alpha_the_examples_stay_with_their_own_clients(tmp_path: Path) -> None:
    rows = [Example(f"word{n % 3}", f"class {n % 2}", f"site {n % 4}") for n in range(TRAIN)]
    for part in ("train", "test"):
        write_jsonl(tmp_path / f"{part}.jsonl", rows)
    places = dealt(corpus_of(tmp_path, alpha=None))
    assert [{place % 4 for place in part} for part in places] == [{0}, {1}, {2}, {3}]


def test_a_split_that_cannot_be_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="too few for 100 clients"):
        corpus_of(folder, profile=msgspec.structs.replace(PROFILE, clients=100))


def test_the_digest_is_of_all_texts_and_labels(tmp_path: Path) -> None:
    write_dataset(tmp_path / "one", TRAIN)
    write_dataset(tmp_path / "same", TRAIN)
    write_dataset(tmp_path / "longer", TRAIN + 1)
    digests = [dataset_sha256(str(tmp_path / name)) for name in ("one", "same", "longer")]
    assert digests[0] == digests[1] != digests[2]


def test_runs_share_states_where_these_are_the_same(tmp_path: Path) -> None:
    mine = states_folder(tmp_path, make_run(), 2)
    assert states_folder(tmp_path, make_run(seed=5, method="fedlora", alpha=1.0), 2) == mine
    others = [
        make_run(pack_sha256="c" * 64),
        make_run(dataset_sha256="d" * 64),
        make_run(options=msgspec.convert({"training": {"max_tokens": 99}}, Options)),
        make_run(profile=msgspec.structs.replace(make_run().profile, test_rows=1)),
    ]
    folders = {states_folder(tmp_path, run, 2) for run in others} | {states_folder(tmp_path, make_run(), 3)}
    assert len({mine, *folders}) == 2 + len(others)


@dataclass
class Places:
    """Stands in for the frozen prefix: what it was asked for."""

    asked: list[Sequence[int]] = field(default_factory=list)

    def of(self, batch: Any, chosen: Sequence[int]) -> Any:
        self.asked.append(chosen)
        return batch


def test_a_client_asks_for_states_by_their_place_in_the_whole_data() -> None:
    known: Any = Places()
    batch: Any = object()
    assert SharedStates(known, (7, 11, 13)).of(batch, [2, 0]) is batch
    assert known.asked == [[13, 7]]
