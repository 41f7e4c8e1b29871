"""An agent's own predictions, from its state folder alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.folders import AGENT_DB
from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch
from edge_agent.predict import answer, predict
from edge_agent.store import Store
from edge_agent.tokenise import Tokeniser
from edge_agent.wire.errors import DataError, PackError, StoreError
from edge_agent.wire.pack import TOKENIZER
from edge_agent.wire.ranks import compact
from tests.models import tiny_pack
from tests.runs import CLASSES, make_agent, make_config, make_state

TEXTS = ["word1 word2 word3", "word4", " ".join(["word5"] * 40)]
SCALE = make_config(Path()).training.scale
MAX_TOKENS = make_config(Path()).training.max_tokens


@pytest.fixture
def tokeniser() -> Tokeniser:
    return Tokeniser(tiny_pack() / TOKENIZER, 0, MAX_TOKENS)


def test_answers_are_the_engines_with_the_kept_state(tmp_path: Path, tokeniser: Tokeniser) -> None:
    state = make_state(2)
    answers = predict(make_agent(tmp_path, state), TEXTS)
    engine = BlockwiseEngine(tiny_pack(), state.layout, threads=1, scale=SCALE)
    for text, got in zip(TEXTS, answers, strict=True):
        ids, mask = tokeniser.collate(tokeniser.encode([text]), MAX_TOKENS)
        logits = engine.logits(Batch(ids, mask), compact(state.layout, state.rows, state.mask), micro_batch=1)[0]
        want = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose([dict(got)[name] for name in CLASSES], want, atol=1e-5)


@given(rows=st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=20))
def test_an_answer_lists_every_class_the_most_probable_first(rows: list[list[float]]) -> None:
    waiting = iter(np.array(rows, np.float32))
    texts = ["word1"] * len(rows)
    tokeniser = Tokeniser(tiny_pack() / TOKENIZER, 0, MAX_TOKENS)
    answers = answer(texts, tokeniser, CLASSES, lambda ids, mask: np.stack([next(waiting) for _ in ids]))
    for row, got in zip(rows, answers, strict=True):
        probabilities = [guess.probability for guess in got]
        assert sorted(guess.label for guess in got) == sorted(CLASSES)
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        assert got[0].label == CLASSES[int(np.argmax(row))]


def test_a_running_agent_is_only_read(tmp_path: Path) -> None:
    running = Store(make_agent(tmp_path, make_state(1)) / AGENT_DB)
    first = predict(tmp_path, TEXTS)
    running.put(boot=b"2")
    assert predict(tmp_path, TEXTS) == first
    running.close()


@pytest.mark.parametrize("version", [None, 0])
def test_the_seed_state_is_no_model(tmp_path: Path, version: int | None) -> None:
    make_agent(tmp_path, None if version is None else make_state(version))
    with pytest.raises(StoreError, match="no model yet"):
        predict(tmp_path, TEXTS)


def test_an_agent_that_joined_no_fleet_has_no_model(tmp_path: Path) -> None:
    Store(tmp_path / AGENT_DB).close()
    with pytest.raises(StoreError, match="no model yet"):
        predict(tmp_path, TEXTS)


def test_a_folder_without_an_agent_is_not_made_into_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=AGENT_DB):
        predict(tmp_path, TEXTS)
    assert not list(tmp_path.iterdir())


def test_a_missing_pack_is_named(tmp_path: Path) -> None:
    make_agent(tmp_path, make_state(1), with_pack=False)
    with pytest.raises(PackError, match="no model pack"):
        predict(tmp_path, TEXTS)


@pytest.mark.parametrize(("texts", "message"), [([], "no text"), (["word1", " "], "text 2 of 2 is empty")])
def test_empty_texts_are_refused(tmp_path: Path, texts: list[str], message: str) -> None:
    make_agent(tmp_path, make_state(1))
    with pytest.raises(DataError, match=message):
        predict(tmp_path, texts)


def test_prediction_leaves_torch_and_onnx_out() -> None:
    code = "import sys, edge_agent.predict; sys.exit(bool({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
