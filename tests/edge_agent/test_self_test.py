"""An installation is found to work, or the reason why not is in the last line."""

from __future__ import annotations

import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent import self_test as module
from edge_agent.self_test import self_test


def test_it_names_what_works_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent.self_test"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.startswith("rankfleet ") and "onnxruntime " in done.stdout
    assert done.stdout.count("\n") == 1


def model_of(operator: str) -> onnx.ModelProto:
    a, b, c = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "abc")
    graph = helper.make_graph([helper.make_node(operator, ["a", "b"], ["c"])], "g", [a, b], [c])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def test_its_model_is_the_product_of_two_matrices() -> None:
    model = model_of("MatMul")
    onnx.checker.check_model(model)
    assert onnx.load_from_string(module._PRODUCT) == model


def test_what_is_missing_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODULES", ("nowhere",))
    with pytest.raises(ModuleNotFoundError, match=r"edge_agent\.nowhere"):
        self_test()


def test_a_processor_that_multiplies_wrongly_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PRODUCT", model_of("Add").SerializeToString())
    monkeypatch.setattr(module, "MODULES", ())
    with pytest.raises(ArithmeticError, match=r"multiplies wrongly on this processor: \[\[6"):
        self_test()
