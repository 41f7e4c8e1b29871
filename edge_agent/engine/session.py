"""One ONNX graph in ONNX Runtime, set up to keep as little memory as it can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from edge_agent.wire.errors import EngineError, PackError

from .protocol import Float32

_SETTINGS = {
    "session.disable_prepacking": "1",  # prepacking copies weights to the heap
    "session.intra_op.allow_spinning": "0",  # the cores are shared with whatever else the board does
}


class Graph:
    """A graph of a pack.

    Raises:
        PackError: a graph that ONNX Runtime does not load.
    """

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.enable_cpu_mem_arena = False  # it grows without bound where shapes vary
        options.intra_op_num_threads = threads
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        for key, value in _SETTINGS.items():
            options.add_session_config_entry(key, value)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors share no base class
            raise PackError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error

    def run(self, outputs: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]]) -> list[Float32]:
        """The named outputs.

        Raises:
            EngineError: ONNX Runtime cannot compute them.
        """
        try:
            results: list[Float32] = self._session.run(list(outputs), dict(feeds))
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime cannot compute a block: {error}") from error
        return results
