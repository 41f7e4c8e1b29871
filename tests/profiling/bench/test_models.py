from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.errors import ConfigError
from profiling.bench.models import BERT_BASE_SHAPE, model_folder
from tests.models import tiny_pack, tiny_source


def test_a_model_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tiny_source(tiny_pack())
    assert model_folder(str(folder), tmp_path, print) == folder


def test_a_shape_that_was_made_before_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / BERT_BASE_SHAPE).mkdir()
    assert model_folder(BERT_BASE_SHAPE, tmp_path, print) == tmp_path / BERT_BASE_SHAPE


def test_anything_else_is_refused_with_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bert-base-shape.*minilm-l6.*got 'bert-huge'"):
        model_folder("bert-huge", tmp_path, print)
