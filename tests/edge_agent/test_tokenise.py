"""Tokens: cut with their special tokens kept, padded to few shapes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from edge_agent.tokenise import Tokeniser
from edge_agent.wire.cost import BUCKETS, bucket
from edge_agent.wire.errors import EngineError, PackError

PAD, UNK, CLS, SEP = range(4)
WORDS = ["pump", "leaks", "bucket"]
VOCABULARY = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
PUMP, LEAKS, BUCKET = range(4, 7)


def saved(path: Path, *, special: bool = True) -> Path:
    """A word-level tokenizer whose file asks, as published ones do, for its own padding and truncation."""
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    if special:
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
        )
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("pack") / "tokenizer.json")


def test_the_files_own_padding_and_truncation_are_off(path: Path) -> None:
    ids = Tokeniser(path, PAD, 16).encode(["pump leaks oil", "pump pump pump bucket"])
    assert ids == [[CLS, PUMP, LEAKS, UNK, SEP], [CLS, PUMP, PUMP, PUMP, BUCKET, SEP]]


def test_a_long_text_is_cut_and_keeps_its_special_tokens(path: Path) -> None:
    ids = Tokeniser(path, PAD, 8).encode(["pump " * 100])
    assert ids == [[CLS, *[PUMP] * 6, SEP]]


def test_an_empty_text_is_its_special_tokens(path: Path) -> None:
    assert Tokeniser(path, PAD, 8).encode(["", " "]) == [[CLS, SEP], [CLS, SEP]]


def test_a_text_without_tokens_becomes_one_that_counts(tmp_path: Path) -> None:
    tokeniser = Tokeniser(saved(tmp_path / "tokenizer.json", special=False), PAD, 8)
    ids = tokeniser.encode([""])
    assert ids == [[PAD]]
    assert tokeniser.collate(ids, 8)[1].sum() == 1


def test_no_texts_make_no_ids(path: Path) -> None:
    assert Tokeniser(path, PAD, 8).encode([]) == []


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), max_size=150))
def test_texts_encode_together_as_they_do_alone(path: Path, texts: list[str]) -> None:
    tokeniser = Tokeniser(path, PAD, 8)
    ids = tokeniser.encode(texts)
    assert ids == [tokeniser.encode([text])[0] for text in texts]
    assert all(1 <= len(sequence) <= 8 for sequence in ids)


def test_a_batch_is_padded_on_the_right(path: Path) -> None:
    input_ids, attention_mask = Tokeniser(path, 9, 16).collate([[CLS, PUMP, SEP], [CLS, SEP]], 4)
    np.testing.assert_array_equal(input_ids, [[CLS, PUMP, SEP, 9], [CLS, SEP, 9, 9]])
    np.testing.assert_array_equal(attention_mask, [[1, 1, 1, 0], [1, 1, 0, 0]])
    assert input_ids.dtype == attention_mask.dtype == np.int32


def test_a_sequence_that_does_not_fit_is_refused(path: Path) -> None:
    with pytest.raises(EngineError, match="9 tokens does not fit in 8"):
        Tokeniser(path, PAD, 16).collate([[PUMP] * 9], 8)


@given(st.integers(0, BUCKETS[-1]))
def test_the_bucket_is_the_smallest_that_holds(length: int) -> None:
    chosen = bucket(length)
    assert chosen >= length
    assert all(other < length for other in BUCKETS if other < chosen)


def test_beyond_the_largest_bucket_is_refused() -> None:
    with pytest.raises(EngineError, match="513 tokens is longer than the largest bucket, 512"):
        bucket(513)


@pytest.mark.parametrize(
    ("max_tokens", "buckets"),
    [(8, (8,)), (50, (8, 16, 24, 32, 48, 50)), (64, (8, 16, 24, 32, 48, 64)), (600, (*BUCKETS, 600))],
)
def test_the_buckets_end_at_the_longest_sequence(path: Path, max_tokens: int, buckets: tuple[int, ...]) -> None:
    assert Tokeniser(path, PAD, max_tokens).buckets == buckets


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(PackError, match=r"tokenizer\.json cannot be read as a tokenizer .*: fetch the pack again"):
        Tokeniser(tmp_path / "tokenizer.json", PAD, 8)


def test_room_for_special_tokens_only_is_refused(path: Path) -> None:
    with pytest.raises(PackError, match=r"adds 2 special tokens .* raise max_tokens"):
        Tokeniser(path, PAD, 2)


def test_no_hub_client_is_imported(path: Path) -> None:
    """A board's constraints choose it for its size alone, which holds as long as nothing imports it."""
    code = (
        "import sys; from pathlib import Path; from edge_agent.tokenise import Tokeniser; "
        "Tokeniser(Path(sys.argv[1]), 0, 8).encode(['pump']); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert not {"huggingface_hub", "filelock", "fsspec", "requests"} & set(done.stdout.split())


def test_a_tokenizer_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    Tokenizer(WordLevel({"pump": 0}, unk_token="[UNK]")).save(str(path))
    with pytest.raises(PackError, match="tokenizer cannot be used"):
        Tokeniser(path, PAD, 16).encode(["bucket"])
