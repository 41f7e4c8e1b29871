from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.engine.session import Graph, prepared
from edge_agent.wire.errors import EngineError, PackError


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """`y = a b`."""
    path = tmp_path_factory.mktemp("graph") / "product.onnx"
    shapes = {"a": ["n", "k"], "b": ["k", "m"], "y": ["n", "m"]}
    a, b, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    model = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "product", [a, b], [y])
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return Graph(path)


def matrix(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def test_results_are_written_where_they_are_wanted(graph: Graph) -> None:
    a, b, y = matrix(3, 4), matrix(4, 5), np.zeros((6, 5), np.float32)
    graph.run({}, {"a": a, "b": b}, {"y": y[2:5]})
    np.testing.assert_allclose(y[2:5], a @ b, rtol=1e-5)
    assert not y[:2].any()
    assert not y[5:].any()


def test_feeds_that_the_graph_does_not_know_are_left_out(graph: Graph) -> None:
    a, b, y = matrix(3, 4), matrix(4, 5), np.empty((3, 5), np.float32)
    graph.run({}, {"a": a, "b": b, "another": matrix(1, 1)}, {"y": y})
    np.testing.assert_allclose(y, a @ b, rtol=1e-5)


def test_prepared_arrays_are_not_copied(graph: Graph) -> None:
    a, b, y = matrix(3, 4), matrix(4, 5), np.empty((3, 5), np.float32)
    fixed = prepared({"b": b, "another": a})
    graph.run(fixed, {"a": a}, {"y": y})
    np.testing.assert_allclose(y, a @ b, rtol=1e-5)
    b[:] = 1
    graph.run(fixed, {"a": a}, {"y": y})
    np.testing.assert_allclose(y, a @ b, rtol=1e-5)


def test_threads_may_run_one_graph_at_once(graph: Graph) -> None:
    def product(seed: int) -> bool:
        a, b, y = matrix(30, 40, seed), matrix(40, 50, seed), np.empty((30, 50), np.float32)
        graph.run({}, {"a": a, "b": b}, {"y": y})
        return np.allclose(y, a @ b, atol=1e-4)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(product, range(200)))


def test_what_cannot_be_computed_is_an_error(graph: Graph) -> None:
    with pytest.raises(EngineError, match="cannot compute"):
        graph.run({}, {"a": matrix(3, 4), "b": matrix(3, 5)}, {"y": np.empty((3, 5), np.float32)})


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(PackError, match=r"bad\.onnx"):
        Graph(tmp_path / "bad.onnx")
