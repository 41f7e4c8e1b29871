from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from edge_agent.engine.torch_graph import TorchGraph
from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import FORWARD
from tests.models import FAMILIES, tiny_pack


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_computes_what_onnx_runtime_computes(family: str) -> None:
    path = tiny_pack("int8", family, sentence=False) / FORWARD
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = _feeds(path)
    (expected,) = session.run(["y"], feeds)
    tensors = {name: torch.tensor(array) for name, array in feeds.items()}

    def linear(x: torch.Tensor, local: str) -> torch.Tensor:
        return x @ tensors[f"{local}.weight"] + tensors.get(f"{local}.bias", torch.zeros(()))

    got = TorchGraph(path).run(tensors, linear)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def _feeds(path: Path) -> dict[str, np.ndarray]:
    """Random inputs of the graph: two sequences of four tokens."""
    sizes = {"tokens": 8, "batch": 2, "sequence": 4}
    generator = np.random.default_rng(0)
    shapes = {
        value.name: [sizes.get(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim]
        for value in onnx.load(str(path)).graph.input
    }
    return {name: (generator.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Tan", ["x"], ["y"])], "block", [x], [y])
    onnx.save(helper.make_model(graph), tmp_path / FORWARD)
    with pytest.raises(PackError, match=r"\['Tan'\]: update rankfleet"):
        TorchGraph(tmp_path / FORWARD)


def test_a_graph_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / FORWARD).write_bytes(b"no graph")
    with pytest.raises(PackError, match=f"{FORWARD} cannot be read"):
        TorchGraph(tmp_path / FORWARD)
