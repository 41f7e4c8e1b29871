from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.wire.errors import ConfigError, PackError
from edge_agent.wire.pack import verify
from profiling.bench.models import BERT_BASE_SHAPE, build_packs, model_folder
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


def test_packs_are_built_for_every_type_of_weights(tmp_path: Path) -> None:
    packs = build_packs(tiny_source(tiny_pack()), ["int8", "fp32"], tmp_path, lambda line: None)
    assert {weights: verify(pack).weights for weights, pack in packs.items()} == {"int8": "int8", "fp32": "fp32"}


def test_a_model_that_cannot_be_read_is_this_projects_error(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"config\.json"):
        build_packs(tmp_path, ["int8"], tmp_path / "packs", lambda line: None)


def test_the_measuring_process_maps_no_library_of_an_engine() -> None:
    code = "import sys, profiling.bench.engine; print(*{'numpy', 'torch', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
