"""The time that a round would take a device, by the cost table that the device measured of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import Layout, Mask


@dataclass(frozen=True)
class DeviceTime:
    """Times of one device, for a model and the batches of `training`."""

    table: m.CostTable
    link_bytes_per_s: int
    model: cost.Model
    layout: Layout
    training: m.Training

    def training_s(self, trained: Mask, tokens: int, steps: int) -> float:
        """`steps` steps on sequences of `tokens`, back to the lowest block with a rank of `trained`, in the fastest
        micro-batch that the device has measured."""
        blocks = [module.block for module, slots in self.layout.living(trained) if len(slots)]
        return steps * self._step_s(tokens, min(blocks, default=self.layout.blocks))

    def looking_s(self, tokens: int, examples: int) -> float:
        """All `examples` once through the model, without a way back."""
        return math.ceil(examples / self.training.batch_size) * self._step_s(tokens, self.layout.blocks)

    def transfer_s(self, size_bytes: int) -> float:
        """`size_bytes` over the link."""
        return size_bytes / self.link_bytes_per_s

    def _step_s(self, tokens: int, lowest_block: int) -> float:
        return min(cost.step_s(self.table, self._work(tokens, lowest_block, one)) for one in self.table.speeds)

    def _work(self, tokens: int, lowest_block: int, speed: m.Speed) -> cost.Work:
        """Memory plays no part in it, so parameters are left out."""
        return cost.Work(
            model=self.model,
            micro_batch=speed.micro_batch,
            kept_blocks=0,
            tokens=tokens,
            batch=self.training.batch_size,
            lowest_block=lowest_block,
            living_parameters=0,
            trained_parameters=0,
            head_parameters=0,
        )
