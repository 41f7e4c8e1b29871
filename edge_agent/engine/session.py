"""One ONNX graph in ONNX Runtime, set up to keep as little memory as it can."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from edge_agent.wire.errors import EngineError, PackError

_SETTINGS = {
    "session.disable_prepacking": "1",  # prepacking copies weights to the heap
    "session.use_env_allocators": "1",  # one arena for both graphs
}
Arrays = Mapping[str, npt.NDArray[Any]]
Values = dict[str, onnxruntime.OrtValue]


def prepared(arrays: Arrays) -> Values:
    """Arrays that several runs take: to hand one over costs as much as a small operator, so it is done once."""
    return {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}


class Graph:
    """A graph of a pack. It computes with one thread, but several threads may run it at once.

    Raises:
        PackError: a graph that ONNX Runtime does not load.
    """

    def __init__(self, path: Path) -> None:
        _share_arena()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False  # it takes a second, larger chunk of the arena for shapes it has seen
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        for key, value in _SETTINGS.items():
            options.add_session_config_entry(key, value)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors share no base class
            raise PackError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error
        self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, fixed: Values, feeds: Arrays, outputs: Arrays, *, shrink: bool = False) -> None:
        """Computes into the arrays `outputs`. Of `fixed` and `feeds`, what the graph does not know is left out.

        With `shrink` the arena then gives back what no graph is using at that moment.

        All arrays must be contiguous.

        Raises:
            EngineError: ONNX Runtime cannot compute them.
        """
        try:
            binding = self._bound(fixed, feeds, outputs)
            self._session.run_with_iobinding(binding, _shrinking() if shrink else None)
        except Exception as error:  # as above
            raise EngineError(
                f"ONNX Runtime cannot compute a block: {error}; if it asks for other inputs or shapes, the graphs are "
                "not of this pack: build it again"
            ) from error

    def _bound(self, fixed: Values, feeds: Arrays, outputs: Arrays) -> onnxruntime.IOBinding:
        binding = self._session.io_binding()
        for name in self._inputs & fixed.keys():
            binding.bind_ortvalue_input(name, fixed[name])
        for name in self._inputs & feeds.keys():
            array = feeds[name]
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return binding


@cache
def _share_arena() -> None:
    """One arena for the process, which grows by what is asked for instead of by powers of two."""
    settings = {"arena_extend_strategy": 1}
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(settings))


@cache
def _shrinking() -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
