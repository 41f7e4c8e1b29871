"""An adapted layer on a tape computes what it says, forward and backward, in both kinds of products."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from deploy.packs.linears import CONTRIB_DOMAIN, LINEARS
from deploy.packs.tape import Tape
from edge_agent.wire.pack import Products

N, D_IN, WIDTHS, RANKS = 12, 16, {"query": 8, "key": 24}, {"query": 3, "key": 0}
Arrays = dict[str, np.ndarray]
TOLERANCE = {"float32": 1e-5, "int8": 0.03}


def make_arrays() -> Arrays:
    """Inputs of both layers; `W.<name>` is the effective matrix, `F.<name>` the frozen one."""
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32)

    arrays = {"x": draw(N, D_IN)}
    for name, width in WIDTHS.items():
        scale = np.abs(draw(width)) / 127 + np.float32(0.001)
        integers = generator.integers(-127, 128, (D_IN, width)).astype(np.int8)
        A, E, B = draw(RANKS[name], D_IN), draw(RANKS[name]), draw(RANKS[name], width)
        arrays |= {f"A.{name}": A, f"E.{name}": E, f"B.{name}": B, f"{name}.bias": draw(width)}
        arrays |= {f"integers.{name}": integers, f"{name}.weight.scale": scale, f"dz.{name}": draw(N, width)}
        arrays[f"W.{name}"] = integers * scale + A.T @ (E[:, None] * B)
    return arrays


def run(tape: Tape, outputs: list[str], arrays: Arrays, products: Products) -> Arrays:
    source = "integers" if products == "int8" else "W"
    feeds = {**arrays, **{f"{name}.weight": arrays[f"{source}.{name}"] for name in WIDTHS}}
    used = {value for node in tape.nodes for value in node.input} & feeds.keys()
    inputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(feeds[k].dtype), feeds[k].shape) for k in used
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(tape.nodes, "linears", inputs, results, list(tape.constants.values()))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(outputs, {name: feeds[name] for name in used})
    return dict(zip(outputs, found, strict=True))


def make_linears(products: Products) -> tuple[Tape, object]:
    tape = Tape()
    parts = SimpleNamespace(blocks=[{f"{name}.bias": None for name in WIDTHS}])
    return tape, LINEARS[products](tape, parts)


def assert_near(got: np.ndarray, expected: np.ndarray, products: Products) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max(initial=0) <= TOLERANCE[products] * np.abs(expected).max(initial=0)


@pytest.mark.parametrize("products", LINEARS)
def test_layers_put_out_x_times_w_and_bias(products: Products) -> None:
    arrays, (tape, linears) = make_arrays(), make_linears(products)
    outputs = linears.forward("x", *WIDTHS)
    found = run(tape, outputs, arrays, products)
    assert outputs == [f"kept.{name}" for name in WIDTHS]
    for name in WIDTHS:
        assert_near(found[f"kept.{name}"], arrays["x"] @ arrays[f"W.{name}"] + arrays[f"{name}.bias"], products)


@pytest.mark.parametrize("products", LINEARS)
def test_gradients_are_those_of_the_factored_layer(products: Products) -> None:
    arrays, (tape, linears) = make_arrays(), make_linears(products)
    kept = linears.backward("x", *WIDTHS)
    [(_, pullback)] = tape._pullbacks
    dx = pullback(*(f"dz.{name}" for name in WIDTHS))["x"]
    assert kept == [f"kept.{name}" for name in WIDTHS]
    found = run(tape, [dx, *(f"d{letter}.{name}" for name in WIDTHS for letter in "AEB")], arrays, products)
    assert_near(found[dx], sum(arrays[f"dz.{name}"] @ arrays[f"W.{name}"].T for name in WIDTHS), products)
    for name in WIDTHS:
        A, E, B, dz = (arrays[f"{key}.{name}"] for key in ("A", "E", "B", "dz"))
        u, v = arrays["x"] @ A.T, dz @ B.T
        assert_near(found[f"dA.{name}"], (v * E).T @ arrays["x"], "float32")
        assert_near(found[f"dE.{name}"], (u * v).sum(axis=0), "float32")
        assert_near(found[f"dB.{name}"], (u * E).T @ dz, "float32")


@pytest.mark.parametrize("products", LINEARS)
def test_small_gradients_are_as_exact_as_large_ones_and_none_stays_none(products: Products) -> None:
    """Tokens differ by orders, and padding has none."""
    arrays, (tape, linears) = make_arrays(), make_linears(products)
    size = np.array([0, 1e-30, 1e-6, 1] * (N // 4), np.float32)[:, None]
    arrays |= {f"dz.{name}": arrays[f"dz.{name}"] * size for name in WIDTHS}
    linears.backward("x", *WIDTHS)
    [(_, pullback)] = tape._pullbacks
    dx = pullback(*(f"dz.{name}" for name in WIDTHS))["x"]
    found = run(tape, [dx], arrays, products)[dx]
    expected = sum(arrays[f"dz.{name}"] @ arrays[f"W.{name}"].T for name in WIDTHS)
    for got, row in zip(found, expected, strict=True):
        assert_near(got, row, products)
