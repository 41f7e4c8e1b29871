from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.engine.weights import WeightMap
from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import WEIGHTS, TensorEntry, load_manifest
from tests.models import tiny_pack


@pytest.fixture
def weights() -> WeightMap:
    return WeightMap(tiny_pack(), load_manifest(tiny_pack()))


def test_gathered_rows_are_rows_of_the_table(weights: WeightMap) -> None:
    indices = np.array([[3, 0], [3, 9]])
    table = weights.tensor("embedding.word")
    np.testing.assert_array_equal(weights.gather("embedding.word", indices), table[indices])
    np.testing.assert_array_equal(weights.rows("embedding.word", 3, 9), table[3:9])


def test_a_tensor_is_expanded_into_the_array_given(weights: WeightMap) -> None:
    name = "block.2.output.dense.weight"
    out = np.empty_like(weights.tensor(name))
    assert weights.tensor(name, out) is out
    np.testing.assert_array_equal(out, weights.tensor(name))


def test_mapped_tensors_are_those_of_the_file(weights: WeightMap) -> None:
    name = "output.dense.weight"
    mapped = weights.mapped(1, [name, "output.dense.bias"])
    assert mapped.keys() == {name, f"{name}.scale", "output.dense.bias"}
    np.testing.assert_array_equal(mapped[name] * mapped[f"{name}.scale"], weights.tensor(f"block.1.{name}"))
    assert not mapped[name].flags.owndata


def test_a_released_section_can_be_read_again(weights: WeightMap) -> None:
    before = weights.tensor("block.1.output.dense.weight")
    weights.release("block.1")
    np.testing.assert_array_equal(weights.tensor("block.1.output.dense.weight"), before)


def test_a_tensor_that_the_pack_lacks_is_named(weights: WeightMap) -> None:
    with pytest.raises(PackError, match="nothing"):
        weights.tensor("embedding.nothing")


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    shutil.copyfile(tiny_pack() / WEIGHTS, tmp_path / WEIGHTS)
    with (tmp_path / WEIGHTS).open("ab") as file:
        file.truncate(1000)
    with pytest.raises(PackError, match=WEIGHTS):
        WeightMap(tmp_path, load_manifest(tiny_pack()))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="cannot be mapped"):
        WeightMap(tmp_path, load_manifest(tiny_pack()))


@pytest.mark.parametrize("offset", [0, 2**40], ids=["wrong size", "behind the end"])
def test_a_tensor_outside_of_the_file_is_refused(offset: int) -> None:
    entry = TensorEntry("float32", (4, 4), offset, 64 if offset else 63)
    manifest = msgspec.structs.replace(load_manifest(tiny_pack()), tensors={"block.0.w": entry})
    with pytest.raises(PackError, match=r"block\.0\.w"):
        WeightMap(tiny_pack(), manifest)


def test_a_tensor_of_too_many_dimensions_is_refused() -> None:
    entry = TensorEntry("float32", (1,) * 100, 0, 4)
    manifest = msgspec.structs.replace(load_manifest(tiny_pack()), tensors={"block.0.w": entry})
    with pytest.raises(PackError, match=r"block\.0\.w.*impossible shape"):
        WeightMap(tiny_pack(), manifest)
