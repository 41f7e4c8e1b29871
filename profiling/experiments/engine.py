"""The engine of experiments: torch on one thread, with frozen weights that a method may move.

It computes the same gradients as the boards' engine from the same pack. That engine cannot be used here because it maps
its weights, and some methods change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from edge_agent.engine.torch_engine import TorchEngine
from edge_agent.wire.pack import load_manifest
from edge_agent.wire.ranks import Layout

from .method import Float32


class ExperimentEngine(TorchEngine):
    """A `TorchEngine` on the processor, for the pack in `pack_dir`; raises as that does."""

    def __init__(self, pack_dir: Path, layout: Layout, *, scale: float) -> None:
        super().__init__(pack_dir, layout, threads=1, scale=scale, device="cpu")
        self._places = {one.name: (one.block, f"{one.local}.weight") for one in load_manifest(pack_dir).modules}
        self._pretrained: dict[str, torch.Tensor] = {}

    def pretrained(self, module: str) -> Float32:
        """`W0 (d_out, d_in)` of a module as the pack has it, whatever was added since."""
        block, name = self._places[module]
        weight = self._pretrained.get(module, self.frozen[block][name])
        copy: Float32 = weight.numpy().T.copy()
        return copy

    def set_base(self, base: Mapping[str, Float32]) -> None:
        """Computes with `W0 + base[module]`, `(d_out, d_in)`, from now on; with `W0` where `base` has nothing."""
        for module in {*self._pretrained, *base}:
            block, name = self._places[module]
            first = self._pretrained.setdefault(module, self.frozen[block][name])
            added = base.get(module)
            self.frozen[block][name] = first if added is None else first + torch.from_numpy(added.T.copy())
