from __future__ import annotations

import numpy as np
import pytest

from edge_agent.engine.checks import check_batch, check_rows
from edge_agent.engine.next_token import IGNORED
from edge_agent.engine.protocol import Batch
from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import Manifest, load_manifest
from edge_agent.wire.ranks import HEAD, Layout, Module, Rows
from tests.models import tiny_pack

LAYOUT = Layout((Module("query", 0, 4, 6),), slots=3, classes=2, d_model=4)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load_manifest(tiny_pack())


def make_batch(ids: object = ((1, 2),), mask: object = ((1, 1),), labels: object = (0,)) -> Batch:
    return Batch(*(np.array(values, dtype=np.int32) for values in (ids, mask, labels)))


def make_rows() -> Rows:
    return {"query": np.zeros((1, 11), np.float32), HEAD: np.zeros((2, 5), np.float32)}


def test_what_fits_is_accepted(manifest: Manifest) -> None:
    check_batch(make_batch(), manifest, classes=2)
    check_batch(Batch(make_batch().input_ids, make_batch().attention_mask), manifest, classes=2)
    check_rows(make_rows(), LAYOUT)
    check_rows({**make_rows(), "query": np.zeros((0, 11), np.float32)}, LAYOUT)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (make_batch(ids=((1, 2, 3),)), "one shape"),
        (make_batch(ids=(1, 2), mask=(1, 1)), "one shape"),
        (make_batch(ids=((),), mask=((),)), "one shape"),
        (make_batch(ids=((1,) * 65,), mask=((1,) * 65,)), "64 tokens at most"),
        (make_batch(ids=((1, 64),)), "every token in 0 to 63"),
        (make_batch(ids=((-1, 2),)), "every token"),
        (make_batch(mask=((0, 0),)), "all padding"),
        (make_batch(labels=(0, 1)), "1 labels"),
        (make_batch(labels=(2,)), "every label in 0 to 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_batch_that_does_not_fit_is_refused(manifest: Manifest, batch: Batch, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check_batch(batch, manifest, classes=2)


@pytest.fixture(scope="module")
def decoder() -> Manifest:
    return load_manifest(tiny_pack("int8", "llama"))


@pytest.mark.parametrize("labels", [((3, IGNORED),), ((IGNORED, 63),), ((1, 2),)], ids=str)
def test_next_tokens_are_accepted_for_a_decoder(decoder: Manifest, labels: object) -> None:
    check_batch(make_batch(labels=labels), decoder, classes=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (((1, 2, 3),), r"1 labels, or \(1, 2\) next tokens"),
        (((IGNORED, IGNORED),), "no next token"),
        (((1, 64),), "every next token in 0 to 63"),
        (((1, -1),), "every next token in 0 to 63"),
    ],
    ids=str,
)
def test_next_tokens_that_do_not_fit_are_refused(decoder: Manifest, labels: object, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check_batch(make_batch(labels=labels), decoder, classes=0)


def test_an_encoder_cannot_be_trained_to_tell_the_next_token(manifest: Manifest) -> None:
    with pytest.raises(EngineError, match="sees all tokens at once"):
        check_batch(make_batch(labels=((1, 2),)), manifest, classes=2)


@pytest.mark.parametrize(
    "table",
    [np.zeros((1, 10), np.float32), np.zeros((1, 11), np.float64), np.zeros(11, np.float32)],
    ids=["width", "type", "dimensions"],
)
def test_rows_that_do_not_fit_are_refused(table: np.ndarray) -> None:
    with pytest.raises(EngineError, match="'query'"):
        check_rows({**make_rows(), "query": table}, LAYOUT)


def test_missing_unknown_and_short_tables_are_refused() -> None:
    with pytest.raises(EngineError, match="query"):
        check_rows({HEAD: make_rows()[HEAD]}, LAYOUT)
    with pytest.raises(EngineError, match="other"):
        check_rows({**make_rows(), "other": make_rows()["query"]}, LAYOUT)
    with pytest.raises(EngineError, match="2 rows"):
        check_rows({**make_rows(), HEAD: make_rows()[HEAD][:1]}, LAYOUT)
