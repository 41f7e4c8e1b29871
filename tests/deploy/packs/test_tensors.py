from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from deploy.packs.architectures import take_apart
from deploy.packs.architectures.parts import Parts
from deploy.packs.source import read_source
from deploy.packs.tensors import WeightsType, largest_section_bytes, quantise, sections, write_tensors
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import ALIGNMENT_BYTES, SECTION_BYTES, WEIGHTS, FileEntry, load_manifest
from tests.models import tiny_model, tiny_pack

# Largest error of a stored number, relative to the largest of its row or column.
RELATIVE_ERRORS: dict[WeightsType, float] = {"int8": 0.51 / 127, "fp16": 2**-11, "fp32": 0}

MATRICES = numpy_st.arrays(
    np.float32, numpy_st.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e6, 1e6, width=32)
)


@pytest.fixture(scope="module", params=["bert", "mpnet", "llama"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A Llama with an output layer of its own, so that there is every kind of section."""
    settings = {"tie_word_embeddings": False} if request.param == "llama" else {}
    source = read_source(tiny_model(tmp_path_factory.mktemp("model"), request.param, **settings))
    return take_apart(source.config, source.state)


def read_back(pack_dir: Path, parts: Parts, weights: WeightsType) -> WeightMap:
    table = write_tensors(pack_dir / WEIGHTS, parts, weights)
    manifest = load_manifest(tiny_pack())
    files = {**manifest.files, WEIGHTS: FileEntry("0" * 64, (pack_dir / WEIGHTS).stat().st_size)}
    return WeightMap(pack_dir, msgspec.structs.replace(manifest, tensors=table, files=files))


@pytest.mark.parametrize("weights", RELATIVE_ERRORS)
def test_every_tensor_comes_back_within_its_types_error(tmp_path: Path, parts: Parts, weights: WeightsType) -> None:
    stored = read_back(tmp_path, parts, weights)
    for section, tensors in sections(parts).items():
        for name, tensor in tensors.items():
            expected = tensor.detach().numpy()
            rounded = expected.ndim == 2 and section != "context"
            tolerance = RELATIVE_ERRORS[weights] * np.abs(expected).max() if rounded else 0
            np.testing.assert_allclose(stored.tensor(f"{section}.{name}"), expected, rtol=0, atol=tolerance)


def test_tensors_are_aligned_and_sections_apart(tmp_path: Path, parts: Parts) -> None:
    table = write_tensors(tmp_path / WEIGHTS, parts, "int8")
    assert all(entry.offset % ALIGNMENT_BYTES == 0 for entry in table.values())
    pages = [
        {entry.offset // SECTION_BYTES for name, entry in table.items() if name.startswith(f"{section}.")}
        for section in sections(parts)
    ]
    assert len(set.union(*pages)) == sum(map(len, pages))


def test_the_working_set_is_the_largest_section(tmp_path: Path, parts: Parts) -> None:
    table = write_tensors(tmp_path / WEIGHTS, parts, "fp32")
    assert largest_section_bytes(parts, table) == SECTION_BYTES
    assert (tmp_path / WEIGHTS).stat().st_size == SECTION_BYTES * len(sections(parts))


@given(MATRICES, st.sampled_from([0, 1]))
def test_quantised_numbers_are_off_by_half_a_step_at_most(values: np.ndarray, axis: int) -> None:
    stored = quantise(values, axis)
    assert stored.values.dtype == np.int8
    assert stored.scale is not None
    step = np.broadcast_to(stored.scale, values.shape)
    assert np.all(np.abs(stored.values * stored.scale - values) <= 0.501 * step)


@given(MATRICES)
def test_each_output_channel_has_its_own_scale(values: np.ndarray) -> None:
    by_column, by_row = quantise(values, 0).scale, quantise(values, 1).scale
    assert by_column is not None and by_row is not None
    assert (by_column.shape, by_row.shape) == ((values.shape[1],), (values.shape[0], 1))
