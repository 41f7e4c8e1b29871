"""Runs what a tape has written in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from deploy.packs.graphs import IR_VERSION, OPSET
from deploy.packs.tape import Tape

Arrays = dict[str, np.ndarray]


def run_tape(written: Callable[[Tape], str], inputs: Arrays, seed: np.ndarray) -> tuple[np.ndarray, Arrays]:
    """The output of `written`, and the gradient of every input when that of the output is `seed`.

    Inputs without a gradient, which the output does not depend on, have zeros.
    """
    tape = Tape()
    y = written(tape)
    gradients = tape.gradients(y, "seed")
    outputs = {name: gradients[name] for name in inputs if name in gradients}
    feeds = {**inputs, "seed": seed}
    # A gradient may be the seed itself, or that of two inputs: each gets a node and a name of its own.
    renamed = {"y": y, **{f"gradient.{name}": value for name, value in outputs.items()}}
    nodes = [*tape.nodes, *(helper.make_node("Identity", [value], [name]) for name, value in renamed.items())]
    graph = helper.make_graph(
        nodes,
        "tape",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in feeds.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in renamed],
        list(tape.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    got = run_model(model, feeds)
    found = {name: got.get(f"gradient.{name}", np.zeros_like(array)) for name, array in inputs.items()}
    return got["y"], found


def frozen(written: Callable[[Tape], str], **arrays: np.ndarray) -> Callable[[Tape], str]:
    """`written` on a tape that has the constants `arrays`."""

    def with_constants(tape: Tape) -> str:
        tape.constants |= {name: numpy_helper.from_array(array, name) for name, array in arrays.items()}
        return written(tape)

    return with_constants


def run_model(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """All outputs of `model`; of `feeds`, what it does not know is left out."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    known = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {key: feeds[key] for key in known}), strict=True))
