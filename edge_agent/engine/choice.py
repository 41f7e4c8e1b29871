"""The engine that the configuration chooses. Each is imported only when it is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge_agent.config import EngineName, TorchDevice
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import Products
from edge_agent.wire.ranks import Layout

from .protocol import Engine


class Choice(NamedTuple):
    """Which engine computes, with how many threads. `torch_device` concerns torch alone, `products` ONNX Runtime.

    `shared_limit_bytes` is what this process may hold where a CUDA device shares the system's memory, None elsewhere.
    """

    threads: int
    engine: EngineName = "onnx"
    torch_device: TorchDevice = "cuda"
    products: Products = "float32"
    shared_limit_bytes: int | None = None


def make_engine(choice: Choice, pack_dir: Path, layout: Layout, scale: float) -> Engine:
    """The engine for the pack in `pack_dir`; `scale` is `s` in `W0 + s * B diag(E) A`.

    Raises:
        ConfigError: what the chosen engine needs is not installed, or its device is missing.
        BudgetError: the budget leaves nothing to a CUDA device that shares the system's memory.
        PackError: a pack that cannot be read.
        EngineError: a layout of another model.
    """
    if choice.engine == "onnx":
        from .onnx_engine import BlockwiseEngine  # noqa: PLC0415

        return BlockwiseEngine(pack_dir, layout, threads=choice.threads, scale=scale, products=choice.products)
    try:
        from .torch_engine import TorchEngine  # noqa: PLC0415 (torch is hundreds of megabytes)
    except ImportError as error:
        raise ConfigError(
            f'engine = "torch" needs torch and onnx ({error}): pip install \'rankfleet[torch]\', or set engine = "onnx"'
        ) from error
    return TorchEngine(
        pack_dir,
        layout,
        threads=choice.threads,
        scale=scale,
        device=choice.torch_device,
        shared_limit_bytes=choice.shared_limit_bytes,
    )
