from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.packs.architectures import take_apart
from deploy.packs.architectures.parts import Parts
from deploy.packs.graphs import backward_graph, forward_graph, needed
from deploy.packs.source import read_source
from tests.deploy.packs.onnx_runner import Arrays, run_model
from tests.models import FAMILIES, tiny_pack, tiny_source

GRAPHS: list[Callable[[Parts], onnx.ModelProto]] = [forward_graph, backward_graph]
STANDARD_OPS = {
    "Add", "Concat", "Erf", "Exp", "Gelu", "Gemm", "Greater", "LayerNormalization", "MatMul", "Mul", "Neg",
    "Reciprocal", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Softmax", "Split", "Sqrt", "Sub",
    "Tanh", "Transpose", "Where",
}  # fmt: skip
LARGEST_CONSTANT = 4
"""Numbers in a constant of a graph: shapes and scalars."""


@cache
def parts_of(family: str) -> Parts:
    source = read_source(tiny_source(tiny_pack("int8", family)))
    return take_apart(source.config, source.state)


def make(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def make_feeds(parts: Parts, sequences: int, tokens: int) -> Arrays:
    """All that the forward graph takes."""
    size = parts.context["cos"].shape[1] if "cos" in parts.context else 1
    positions = {"relative": make(1, parts.heads, tokens, tokens), "cos": make(tokens, size), "sin": make(tokens, size)}
    mask = np.zeros((sequences, 1, tokens if parts.causal else 1, tokens), np.float32)
    frozen = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in parts.blocks[0].items()}
    return {"x": make(sequences * tokens, parts.d_model), "mask": mask, **positions, **frozen}


def make_factors(parts: Parts, ranks: list[int]) -> Arrays:
    """`ranks[i]` ranks for the module `i`, in turn."""
    factors = {}
    for index, (name, (d_in, d_out)) in enumerate(parts.modules.items()):
        rank = ranks[index % len(ranks)]
        factors |= {f"A.{name}": make(rank, d_in), f"E.{name}": make(rank), f"B.{name}": make(rank, d_out)}
    return factors


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.lists(st.integers(0, 3), min_size=1, max_size=7))
@pytest.mark.parametrize("family", FAMILIES)
def test_batch_tokens_and_every_rank_are_dynamic(family: str, sequences: int, tokens: int, ranks: list[int]) -> None:
    parts = parts_of(family)
    feeds, factors = make_feeds(parts, sequences, tokens), make_factors(parts, ranks)
    forward = run_model(forward_graph(parts), feeds)
    n = sequences * tokens
    kept = {f"kept.{name}": (n, d_out) for name, (_, d_out) in parts.modules.items()}
    assert {name: array.shape for name, array in forward.items()} == {"y": (n, parts.d_model), **kept}
    y = forward.pop("y")
    backward = run_model(backward_graph(parts), {**feeds, **factors, **forward, "dy": y})
    gradients = {f"d{name}": array.shape for name, array in factors.items()}
    assert {name: array.shape for name, array in backward.items()} == {"dx": (n, parts.d_model), **gradients}


@pytest.mark.parametrize("family", FAMILIES)
def test_sequences_do_not_see_each_other(family: str) -> None:
    parts = parts_of(family)
    both, first = make_feeds(parts, 2, 3), make_feeds(parts, 1, 3)
    first["x"] = both["x"][:3]
    y = run_model(forward_graph(parts), both)["y"]
    np.testing.assert_allclose(y[:3], run_model(forward_graph(parts), first)["y"], atol=1e-5)


@pytest.mark.parametrize("written", GRAPHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_hold_no_weights_and_common_operators_only(
    family: str, written: Callable[[Parts], onnx.ModelProto]
) -> None:
    graph = written(parts_of(family)).graph
    assert all(np.prod(tensor.dims, dtype=int) <= LARGEST_CONSTANT for tensor in graph.initializer)
    assert {node.domain for node in graph.node} == {""}
    assert {node.op_type for node in graph.node} <= STANDARD_OPS


@pytest.mark.parametrize("written", GRAPHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_given_is_used(family: str, written: Callable[[Parts], onnx.ModelProto]) -> None:
    graph = written(parts_of(family)).graph
    used = {name for node in graph.node for name in node.input}
    assert {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} <= used
    results = {name for node in graph.node for name in node.output}
    assert {value.name for value in graph.output} <= results


def test_only_what_leads_to_an_output_is_kept() -> None:
    chain = [onnx.helper.make_node("Relu", [a], [b]) for a, b in ("ab", "bc", "ad")]
    assert [list(node.output) for node in needed(chain, ["c"])] == [["b"], ["c"]]
