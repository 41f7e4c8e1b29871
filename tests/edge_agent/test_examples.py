from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.data import Example, split_holdout
from edge_agent.examples import SPLIT_SEED, Tokens, by_length, make_batch, read_local, shuffled, tokenise
from edge_agent.tokenise import Tokeniser
from edge_agent.wire.errors import DataError
from edge_agent.wire.pack import TOKENIZER
from tests.agents import EXAMPLES, write_data
from tests.models import tiny_pack
from tests.runs import CLASSES

COUNTS = st.integers(1, 40)
BATCHES = st.integers(1, 12)


def tokens_of(*lengths: int) -> Tokens:
    ids = tuple(np.full(length, 5, np.int32) for length in lengths)
    return Tokens(ids, np.arange(len(lengths), dtype=np.int32))


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    return Tokeniser(tiny_pack() / TOKENIZER, 0, 16)


@given(count=COUNTS, batch=BATCHES, epochs=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_every_epoch_sees_every_example_once(count: int, batch: int, epochs: int, seed: int) -> None:
    steps = -(-count // batch)
    batches = list(shuffled(count, batch, epochs * steps, seed, "pi-1", 3))
    for epoch in range(epochs):
        part = batches[epoch * steps : (epoch + 1) * steps]
        assert sorted(place for chosen in part for place in chosen) == list(range(count))
    assert all(1 <= len(chosen) <= batch for chosen in batches)


@given(count=COUNTS, batch=BATCHES, steps=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_batches_follow_from_the_seed_and_the_path(count: int, batch: int, steps: int, seed: int) -> None:
    one, other = (list(shuffled(count, batch, steps, seed, "pi-1", 3)) for _ in range(2))
    assert one == other and len(one) == steps


def test_devices_rounds_and_epochs_draw_apart() -> None:
    draws = [tuple(next(shuffled(30, 30, 1, 7, device, number))) for device in ("a", "b") for number in (1, 2)]
    first, second = shuffled(30, 30, 2, 7, "a", 1)
    assert len({*draws, tuple(second)}) == 5 and tuple(first) == draws[0]


@given(lengths=st.lists(st.integers(1, 9), max_size=20), batch=BATCHES)
def test_all_places_come_the_shortest_first(lengths: list[int], batch: int) -> None:
    places = [place for chosen in by_length(tokens_of(*lengths), batch) for place in chosen]
    assert Counter(places) == Counter(range(len(lengths)))
    assert [lengths[place] for place in places] == sorted(lengths, reverse=True)


def test_a_batch_is_padded_to_the_bucket_of_its_longest(tokeniser: Tokeniser) -> None:
    batch = make_batch(tokens_of(3, 9, 5), [0, 2], tokeniser)
    assert batch.input_ids.shape == batch.attention_mask.shape == (2, 8)
    assert batch.attention_mask.sum(axis=1).tolist() == [3, 5]
    assert batch.labels is not None and batch.labels.tolist() == [0, 2]
    assert make_batch(tokens_of(3, 9, 5), [1], tokeniser).input_ids.shape == (1, 16)


def test_labels_are_places_among_the_fleets_classes(tmp_path: Path, tokeniser: Tokeniser) -> None:
    read = read_local(write_data(tmp_path / "texts.jsonl"), CLASSES)
    train, holdout = split_holdout(read, share=0.2, seed=SPLIT_SEED)
    assert len(train) + len(holdout) == EXAMPLES and holdout
    tokens = tokenise(train, tokeniser, CLASSES)
    assert [CLASSES[label] for label in tokens.labels] == [example.label for example in train]
    assert len(tokens) == len(train) and tokens.longest == 5


def test_no_examples_have_no_longest(tokeniser: Tokeniser) -> None:
    assert tokenise([], tokeniser, CLASSES).longest == len(tokenise([], tokeniser, CLASSES)) == 0


def test_a_foreign_label_names_the_file_and_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"texts\.jsonl, line 2"):
        read_local(write_data(tmp_path / "texts.jsonl"), CLASSES[:1])


def test_a_folders_files_are_read_by_name_and_only_their_whole_lines(tmp_path: Path) -> None:
    write_data(tmp_path / "b.jsonl", 3)
    (tmp_path / "a.csv").write_text("text,label\nword1,belt\nword2,pu")
    (tmp_path / ".c.jsonl").write_text("not JSON")
    (tmp_path / "d.jsonl.part").write_text("not JSON")
    read = read_local(tmp_path, CLASSES)
    assert [example.text for example in read] == ["word1", *(f"word{i} word{10 + i} word{20 + i}" for i in range(3))]


def test_a_folder_without_a_whole_line_has_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "word1"')
    with pytest.raises(DataError, match=r"has no examples yet: put \.jsonl or \.csv files there") as caught:
        read_local(tmp_path, CLASSES)
    assert caught.value.told == "the data folder has no examples yet, in 1 files"


def test_a_foreign_label_in_a_folder_names_its_file(tmp_path: Path) -> None:
    write_data(tmp_path / "a.jsonl")
    (tmp_path / "b.csv").write_text("text,label\nword1,gearbox\n")
    with pytest.raises(DataError, match=r"b\.csv, line 2: .*names no class") as caught:
        read_local(tmp_path, CLASSES)
    assert "b.csv" not in caught.value.told and "gearbox" not in str(caught.value)


def test_an_entry_point_is_called(tmp_path: Path) -> None:
    (tmp_path / "examples_of_a_test.py").write_text("def rows():\n    yield 'word1', 'belt'\n")
    data = Path("python:examples_of_a_test:rows")
    assert read_local(data, CLASSES, tmp_path) == [Example("word1", "belt")]
