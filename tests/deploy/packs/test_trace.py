from __future__ import annotations

import onnx
import pytest

from edge_agent.wire.pack import FORWARD, VJP, load_manifest
from tests.models import tiny_pack


def shapes(values: object) -> dict[str, list[str | int]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in values  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("name", [FORWARD, VJP])
def test_batch_tokens_and_every_rank_are_dynamic(name: str) -> None:
    inputs = shapes(onnx.load(tiny_pack() / name).graph.input)
    modules = [module.local for module in load_manifest(tiny_pack()).modules if module.block == 0]
    dynamic = [inputs["x"][0], inputs["x"][1], *(inputs[f"adapter.{module}"][0] for module in modules)]
    assert all(isinstance(size, str) for size in dynamic)
    assert len(set(dynamic)) == 2 + len(modules)


def test_gradients_have_the_shapes_of_the_adapters() -> None:
    graph = onnx.load(tiny_pack() / VJP).graph
    inputs, outputs = shapes(graph.input), shapes(graph.output)
    assert outputs.pop("dx") == inputs["x"] == inputs["dy"]
    assert outputs == {
        name.replace("adapter.", "gradient."): shape for name, shape in inputs.items() if name.startswith("adapter.")
    }


@pytest.mark.parametrize("name", [FORWARD, VJP])
def test_graphs_carry_no_weights_and_no_traces_of_the_machine(name: str) -> None:
    model = onnx.load(tiny_pack() / name)
    assert (tiny_pack() / name).stat().st_size < 2**16
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert sum(len(tensor.raw_data) for tensor in model.graph.initializer) < 1024
