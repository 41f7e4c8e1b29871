"""What a tape writes computes what torch computes, forward and, pulled back, the gradients of autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from transformers.activations import ACT2FN

from deploy.packs.tape import ACTIVATIONS, Tape
from tests.deploy.packs.onnx_runner import frozen, run_tape

EPS = 1e-5
TOKENS, WIDTH = 5, 6
SHAPES = st.tuples(st.integers(1, 9), st.integers(2, 12))

Written = Callable[[Tape], str]


def assert_gradients_equal(written: Written, expected: Callable[..., Tensor], **inputs: np.ndarray) -> None:
    """`written` is the graph; `expected` the same with torch, of the same inputs."""
    leaves = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in inputs.items()}
    y = expected(**leaves)
    seed = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    y.backward(torch.tensor(seed, dtype=torch.float64))
    got, gradients = run_tape(written, inputs, seed)
    np.testing.assert_allclose(got, y.detach(), rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, leaves[name].grad, rtol=1e-4, atol=1e-4, err_msg=name)


def make(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([*shape, seed]).standard_normal(shape).astype(np.float32)


@settings(max_examples=10, deadline=None)
@given(SHAPES)
def test_sums_and_products(shape: tuple[int, int]) -> None:
    a, b = make(*shape), make(*shape, seed=1)
    assert_gradients_equal(lambda tape: tape.add("a", "b"), lambda a, b: a + b, a=a, b=b)
    assert_gradients_equal(lambda tape: tape.mul("a", "b"), lambda a, b: a * b, a=a, b=b)


@settings(max_examples=10, deadline=None)
@given(SHAPES)
def test_layer_norm(shape: tuple[int, int]) -> None:
    weight, bias = make(shape[1], seed=1), make(shape[1], seed=2)

    def expected(x: Tensor) -> Tensor:
        return functional.layer_norm(x, shape[1:], torch.tensor(weight).double(), torch.tensor(bias).double(), EPS)

    def written(tape: Tape) -> str:
        return tape.layer_norm("x", "weight", "bias", EPS)

    assert_gradients_equal(frozen(written, weight=weight, bias=bias), expected, x=3 * make(*shape) + 1)


@settings(max_examples=10, deadline=None)
@given(SHAPES)
def test_rms_norm(shape: tuple[int, int]) -> None:
    weight = make(shape[1], seed=1)

    def expected(x: Tensor) -> Tensor:
        return functional.rms_norm(x, shape[1:], torch.tensor(weight).double(), EPS)

    def written(tape: Tape) -> str:
        return tape.rms_norm("x", "weight", EPS)

    assert_gradients_equal(frozen(written, weight=weight), expected, x=make(*shape))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_transformers(name: str) -> None:
    x = np.linspace(-8, 8, 41, dtype=np.float32).reshape(-1, 1)
    assert_gradients_equal(lambda tape: tape.activation("x", name), lambda x: ACT2FN[name](x), x=x)  # noqa: PLW0108 - it names its argument otherwise


@pytest.mark.parametrize("widths", [[6], [1, 5], [2, 2, 2]], ids=str)
def test_a_split_is_pulled_back_in_its_order(widths: list[int]) -> None:
    """Each part is weighed differently, so that parts in a wrong order would show."""
    weights = [make(TOKENS, width, seed=width) for width in widths]

    def written(tape: Tape) -> str:
        parts = tape.split("x", widths)
        terms = [tape.mul(part, f"w{index}") for index, part in enumerate(parts)]

        def pull(dy: str) -> dict[str, str]:
            return dict(zip(terms, tape.ops("Split", [dy, tape.constant(widths)], len(widths), axis=-1), strict=True))

        return tape.record(tape.op("Concat", *terms, axis=-1), pull)

    def expected(x: Tensor) -> Tensor:
        parts = x.split(widths, dim=-1)
        return torch.cat([part * torch.tensor(w) for part, w in zip(parts, weights, strict=True)], dim=-1)

    named = {f"w{index}": weight for index, weight in enumerate(weights)}
    assert_gradients_equal(frozen(written, **named), expected, x=make(TOKENS, sum(widths)))


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from("+*s"), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_a_gradient_is_the_sum_over_all_paths(steps: list[tuple[str, int, int]]) -> None:
    """Random graphs, in which a value is used once, many times, twice in one node, or not at all."""

    def written(tape: Tape) -> str:
        values = ["x"]
        for kind, i, j in steps:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append({"+": tape.add, "*": tape.mul}[kind](a, b) if kind != "s" else tape.activation(a, "silu"))
        return values[-1]

    def expected(x: Tensor) -> Tensor:
        values = [x]
        for kind, i, j in steps:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(functional.silu(a) if kind == "s" else a + b if kind == "+" else a * b)
        return values[-1]

    assert_gradients_equal(written, expected, x=make(TOKENS, WIDTH) * np.float32(0.5))


def test_equal_constants_are_one_tensor() -> None:
    tape = Tape()
    assert tape.constant(0.5) == tape.constant(0.5) != tape.constant(1.5)
    assert tape.constant([1, 2]) != tape.constant([12])
    assert tape.constant(1.0) != tape.constant([1])
    assert len(tape.constants) == 6


def test_what_does_not_lead_to_the_output_gets_no_gradient() -> None:
    tape = Tape()
    y = tape.add("a", "b")
    tape.mul("b", "c")
    assert tape.gradients(y, "dy").keys() == {y, "a", "b"}
