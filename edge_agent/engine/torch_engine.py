"""The same training by torch, for a board with CUDA. Chosen by the configuration; nothing else imports it.

The frozen weights lie on the device in float32, dequantised once: four bytes a parameter, whatever the pack stores.
Linear layers compute `x W0 + bias + s * ((x A^T) * E) B` with factors as tables hold them, so that autograd gives
their gradients; they leave padding out, so its states are zeros, which no token looks at. As in the other engine the
inputs of the blocks that train are kept, and a block is computed again on the way back, except the `kept_blocks`
uppermost, whose autograd graphs are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edge_agent import memory
from edge_agent.config import TorchDevice
from edge_agent.jetson import cuda_share
from edge_agent.wire.errors import ConfigError, EngineError
from edge_agent.wire.pack import FORWARD, load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows

from .checks import check_batch, check_rows, check_start
from .context import additive_mask, positional
from .embedding import embed
from .head import classify
from .objective import Objective
from .protocol import Batch, Float32, Gradients, Prefix
from .torch_graph import TorchGraph
from .weights import WeightMap


class TorchEngine:
    """An `Engine` for the pack in `pack_dir`, whose modules `layout` must list, on `device`.

    `scale` is `s` in `W0 + s * B diag(E) A`; `threads` compute on the CPU. Embeddings, the final norm, pooling and the
    loss are those of the other engine, on the CPU.

    With `shared_limit_bytes`, for a device that shares the system's memory, what CUDA holds counts as this process's
    own, and it gets no more of it than the process may still take.

    Raises:
        ConfigError: CUDA was asked for and torch finds none.
        BudgetError: `shared_limit_bytes` leave nothing to CUDA.
        PackError: a pack that cannot be read.
        EngineError: a layout of another model.
    """

    def __init__(
        self,
        pack_dir: Path,
        layout: Layout,
        *,
        threads: int,
        scale: float,
        device: TorchDevice,
        shared_limit_bytes: int | None = None,
    ) -> None:
        self._device = _device(device)
        if self._device.type == "cuda" and shared_limit_bytes is not None:
            _share_memory(self._device, shared_limit_bytes)
        torch.set_num_threads(threads)
        self._layout = layout
        self._scale = scale
        self._manifest = load_manifest(pack_dir)
        if module_layout(self._manifest, layout.slots, layout.classes) != layout:
            raise EngineError(f"the layout's modules are not those of {self._manifest.model}: another pack was meant")
        self._weights = WeightMap(pack_dir, self._manifest)
        self._objective = Objective(self._manifest, self._weights)
        self._graph = TorchGraph(pack_dir / FORWARD)
        with _told_of_memory():
            self.frozen = [self._load(block) for block in range(layout.blocks)]
        """The frozen tensors of every block by local name; a linear layer's weight is `(d_in, d_out)`."""

    def step(self, batch: Batch, rows: Rows, *, lowest_block: int, micro_batch: int, kept_blocks: int = 0) -> Gradients:
        """See `Engine.step`."""
        with _told_of_memory():
            return self._step(batch, rows, lowest_block, micro_batch, kept_blocks)

    def _step(self, batch: Batch, rows: Rows, lowest_block: int, micro_batch: int, kept_blocks: int) -> Gradients:
        if batch.labels is None:
            raise EngineError("a training step needs a batch with labels")
        if not 0 <= lowest_block <= self._layout.blocks:
            raise EngineError(f"lowest_block must lie in 0 to {self._layout.blocks}, got {lowest_block}")
        stop = self._lowest_living(rows, lowest_block)
        check_start(batch.prefix, stop)
        passing = self._pass(batch, rows, micro_batch)
        hidden = self._forward(passing, stop, max(stop, self._layout.blocks - kept_blocks), self._layout.blocks)
        loss = self._objective.loss(hidden, batch, batch.labels, rows[HEAD])
        gradients = {m.name: np.zeros_like(rows[m.name]) for m in self._layout.modules if m.block >= lowest_block}
        dy = self._tensor(loss.d_hidden.reshape(-1, self._layout.d_model))
        for block in reversed(range(stop, self._layout.blocks)):  # the input of the last of them needs no gradient
            dy = self._backward(passing, block, dy, gradients, below=block > stop)
        return Gradients(loss.value, {**gradients, HEAD: loss.d_head}, loss.correct)

    def logits(self, batch: Batch, rows: Rows, *, micro_batch: int) -> Float32:
        """See `Engine.logits`."""
        return classify(self.pooled(batch, rows, micro_batch=micro_batch), rows[HEAD])

    def pooled(self, batch: Batch, rows: Rows, *, micro_batch: int) -> Float32:
        """See `Engine.pooled`."""
        hidden = self.hidden(batch, rows, blocks=self._layout.blocks, micro_batch=micro_batch)
        return self._objective.pooled(hidden, batch)

    def hidden(self, batch: Batch, rows: Rows, *, blocks: int, micro_batch: int) -> Float32:
        """See `Engine.hidden`."""
        none = self._layout.blocks
        with _told_of_memory():
            return self._forward(self._pass(batch, rows, micro_batch), none, none, blocks)

    def give_back(self) -> None:
        """See `Engine.give_back`."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _load(self, block: int) -> dict[str, Tensor]:
        """The frozen tensors of a block on the device, by local name."""
        names = self._manifest.block_weights
        tensors = {name: self._tensor(self._weights.tensor(f"block.{block}.{name}")) for name in names}
        self._weights.release(f"block.{block}")
        return tensors

    def _pass(self, batch: Batch, rows: Rows, micro_batch: int) -> _Pass:
        check_batch(batch, self._manifest, self._layout.classes)
        check_rows(rows, self._layout)
        if micro_batch < 1:
            raise EngineError(f"a micro-batch holds at least 1 example, got {micro_batch}")
        mask = self._tensor(additive_mask(batch.attention_mask, causal=self._manifest.causal))
        places = positional(self._weights, self._manifest, batch.input_ids.shape[1])
        tables = {name: self._tensor(table) for name, table in rows.items()}
        return _Pass(
            batch,
            micro_batch,
            tuple(_parts(batch, mask, micro_batch)),
            {name: self._tensor(one) for name, one in places.items()},
            tables,
            inputs={},
            graphs={},
        )

    def _forward(self, passing: _Pass, stop: int, first_kept: int, end: int) -> Float32:
        """Hidden states before block `end`, `(b, s, d)`; the inputs of the blocks from `stop` on are kept."""
        first, states = passing.batch.prefix or Prefix(0, self._embed(passing))
        x = self._tensor(states.reshape(-1, self._layout.d_model))
        for block in range(first, end):
            if block >= stop:
                passing.inputs[block] = x
            if block >= first_kept:
                passing.graphs[block] = [self._record(passing, block, x, part) for part in passing.parts]
                x = torch.cat([recorded.y.detach() for recorded in passing.graphs[block]])
            else:
                with torch.no_grad():
                    ranks = self._ranks(passing, block)
                    x = torch.cat([self._block(block, x[p.tokens], p, passing.places, ranks) for p in passing.parts])
        return x.cpu().numpy().reshape(states.shape)

    def _embed(self, passing: _Pass) -> Float32:
        return embed(self._weights, self._manifest, passing.batch.input_ids, passing.micro_batch)

    def _backward(self, passing: _Pass, block: int, dy: Tensor, gradients: Rows, *, below: bool) -> Tensor:
        """Adds the gradients of the block's modules to `gradients`; returns that of its input, if `below` needs it."""
        kept, x = passing.graphs.pop(block, None), passing.inputs.pop(block)
        dx: list[Tensor] = []
        for index, part in enumerate(passing.parts):
            recorded = kept[index] if kept else self._record(passing, block, x, part)
            names = list(recorded.ranks)
            tables = [recorded.ranks[name] for name in names]
            wanted = [*tables, recorded.x] if below else tables
            found = torch.autograd.grad(recorded.y, wanted, dy[part.tokens])
            d_tables, d_part = found[: len(tables)], found[len(tables) :]
            dx.extend(d_part)
            for name, d_table in zip(names, d_tables, strict=True):
                gradients[name] += d_table.cpu().numpy()
        return torch.cat(dx) if dx else dy

    def _record(self, passing: _Pass, block: int, x: Tensor, part: _Part) -> _Recorded:
        """One micro-batch through a block, with all that autograd needs."""
        leaf = x[part.tokens].detach().requires_grad_()
        ranks = {name: table.detach().requires_grad_() for name, table in self._ranks(passing, block).items()}
        return _Recorded(leaf, ranks, self._block(block, leaf, part, passing.places, ranks))

    def _ranks(self, passing: _Pass, block: int) -> dict[str, Tensor]:
        """The tables of those modules of a block in which a rank lives."""
        names = [module.name for module in self._layout.modules if module.block == block]
        return {name: passing.tables[name] for name in names if len(passing.tables[name])}

    def _block(self, block: int, x: Tensor, part: _Part, places: dict[str, Tensor], ranks: dict[str, Tensor]) -> Tensor:
        frozen = self.frozen[block]
        names = {module.local: module.name for module in self._manifest.modules if module.block == block}

        def linear(x: Tensor, local: str) -> Tensor:
            weight, bias = frozen[f"{local}.weight"], frozen.get(f"{local}.bias")
            real = x if part.real is None else x[part.real]
            y = real @ weight if bias is None else torch.addmm(bias, real, weight)
            table = ranks.get(names[local])
            if table is not None:
                y = y + self._adapter(real, table)
            return y if part.real is None else x.new_zeros(len(x), y.shape[1]).index_copy(0, part.real, y)

        return self._graph.run({"x": x, "mask": part.mask, **places, **frozen}, linear)

    def _adapter(self, x: Tensor, table: Tensor) -> Tensor:
        """`s * ((x A^T) * E) B` of rows `[A_i | E_i | B_i]`."""
        d_in = x.shape[1]
        A, E, B = table[:, :d_in], table[:, d_in], table[:, d_in + 1 :]
        return ((x @ A.T) * (E * self._scale)) @ B

    def _lowest_living(self, rows: Rows, lowest_block: int) -> int:
        """The lowest block that has something to train: the way back ends there."""
        living = (m.block for m in self._layout.modules if m.block >= lowest_block and len(rows[m.name]))
        return min(living, default=self._layout.blocks)

    def _tensor(self, array: Float32) -> Tensor:
        return torch.tensor(array, device=self._device)


class _Part(NamedTuple):
    """One micro-batch: where its tokens lie, its additive mask, and which of its tokens are no padding (None: all)."""

    tokens: slice
    mask: Tensor
    real: Tensor | None


class _Recorded(NamedTuple):
    """A micro-batch that passed a block: the leaves of its autograd graph, and the output."""

    x: Tensor
    ranks: dict[str, Tensor]
    y: Tensor


class _Pass(NamedTuple):
    """What a pass works on, on the device, and what it keeps for the way back, by block."""

    batch: Batch
    micro_batch: int
    parts: tuple[_Part, ...]
    places: dict[str, Tensor]
    tables: dict[str, Tensor]
    inputs: dict[int, Tensor]
    graphs: dict[int, list[_Recorded]]


def _parts(batch: Batch, mask: Tensor, micro_batch: int) -> Iterator[_Part]:
    """The micro-batches; `mask` is the additive one of the whole batch."""
    sequences, length = batch.input_ids.shape
    for start in range(0, sequences, micro_batch):
        end = min(start + micro_batch, sequences)
        padded = batch.attention_mask[start:end]
        real = None if padded.all() else torch.from_numpy(np.flatnonzero(padded)).to(mask.device)
        yield _Part(slice(start * length, end * length), mask[start:end], real)


def _share_memory(device: torch.device, limit_bytes: int) -> None:
    """Bounds what CUDA takes of the system's memory, and counts it. The context itself is in neither."""
    total_bytes = torch.cuda.mem_get_info(device)[1]
    share = cuda_share(limit_bytes, memory.own().anonymous_bytes, total_bytes)
    torch.cuda.set_per_process_memory_fraction(share, device)
    memory.count_beside(torch.cuda.memory_reserved)


@contextmanager
def _told_of_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"CUDA refuses memory to the torch engine ({error}): raise memory.budget_bytes where the device shares the "
            'system\'s memory, lower training.max_tokens, or set engine = "onnx"'
        ) from error


def _device(name: TorchDevice) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f'expected a CUDA device, torch {torch.__version__} finds none: set torch_device = "cpu", or install a '
            "torch that was built for this board's CUDA"
        )
    return torch.device(name)
