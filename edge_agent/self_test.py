"""`python -m edge_agent.self_test`: whether this installation of the agent works on this board, in a few seconds.

Imports everything that an agent imports, and has ONNX Runtime multiply two matrices. Prints one line of versions. A
release's own self-test decides whether it may become the current one; it needs no configuration and writes nothing.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

import numpy as np
import onnxruntime

MODULES = (
    "agent",
    "doctor.checkup",
    "engine.onnx_engine",
    "importance",
    "measure",
    "trainer",
    "trainer_process",
)
"""What the supervisor, the trainer process and a measurement are started from."""
_PRODUCT = bytes.fromhex(
    "08083a550a110a01610a016212016322064d61744d756c1201675a130a0161120e0a0c080112080a0208020a0208025a130a0162120e0a0c0801"
    "12080a0208020a02080262130a0163120e0a0c080112080a0208020a02080242040a001011"
)
"""An ONNX model of one node: c = MatMul(a, b), all float32 of shape (2, 2)."""


def self_test() -> str:
    """The versions that were found to work. Raises whatever a part of the installation raises that does not."""
    for name in MODULES:
        importlib.import_module(f"edge_agent.{name}")
    a, b = np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [7, 8]], np.float32)
    session = onnxruntime.InferenceSession(_PRODUCT, providers=["CPUExecutionProvider"])
    (c,) = session.run(None, {"a": a, "b": b})
    if not np.array_equal(c, [[19, 22], [43, 50]]):
        raise ArithmeticError(f"ONNX Runtime multiplies wrongly on this processor: {c.tolist()}")
    parts = ("rankfleet", "onnxruntime", "numpy", "tokenizers")
    return ", ".join([*(f"{part} {version(part)}" for part in parts), f"Python {sys.version.split()[0]}"])


if __name__ == "__main__":
    print(self_test())  # noqa: T201 (its one line of output)
