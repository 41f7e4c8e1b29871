"""The same adapted model in plain torch: transformers' own in float64, with autograd for the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from edge_agent.engine.protocol import Batch, Gradients
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import Manifest, load_manifest
from edge_agent.wire.ranks import HEAD, Rows

_POSITIONS = ("position_embeddings.weight", "wpe.weight")
_TOKEN_TYPES = "token_type_embeddings.weight"


class AdaptedLinear(nn.Module):
    """`W0 + s * B diag(E) A`, formed as a dense matrix: slow and plain."""

    def __init__(self, linear: nn.Module, table: Tensor, scale: float) -> None:
        super().__init__()
        self.weight = linear.weight.T if isinstance(linear, Conv1D) else linear.weight
        self.bias, self.table, self.scale = linear.bias, table, scale

    def forward(self, x: Tensor) -> Tensor:
        d_in = self.weight.shape[1]
        A, E, B = self.table[:, :d_in], self.table[:, d_in], self.table[:, d_in + 1 :].T
        weight = self.weight + self.scale * B @ torch.diag(E) @ A
        return nn.functional.linear(x, weight, self.bias)


def torch_gradients(pack_dir: Path, source_dir: Path, batch: Batch, rows: Rows, scale: float) -> Gradients:
    """Loss and the gradient of every table, for classes or for next tokens."""
    tables = {name: torch.tensor(table, dtype=torch.float64, requires_grad=True) for name, table in rows.items()}
    labels = torch.tensor(batch.labels, dtype=torch.long).flatten()
    if batch.labels.ndim == 1:
        logits = torch_logits(pack_dir, source_dir, batch, tables, scale)
    else:
        logits = torch_next_token_logits(pack_dir, source_dir, batch, tables, scale).flatten(0, 1)
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    gradients = {name: _gradient(table) for name, table in tables.items()}
    return Gradients(loss.item(), gradients, int((logits.argmax(1) == labels).sum()))


def torch_logits(pack_dir: Path, source_dir: Path, batch: Batch, tables: dict[str, Tensor], scale: float) -> Tensor:
    manifest = load_manifest(pack_dir)
    output = _output(_adapted(pack_dir, source_dir, manifest, tables, scale), batch)
    hidden, mask = output.last_hidden_state, torch.tensor(batch.attention_mask, dtype=torch.long)
    pooled = {
        "mean": lambda: _mean(hidden, mask),
        "cls": lambda: hidden[:, 0],
        "last": lambda: hidden[torch.arange(len(hidden)), mask.sum(1) - 1],
        "pooler": lambda: output.pooler_output,
    }[manifest.pooling]()
    return pooled @ tables[HEAD][:, :-1].T + tables[HEAD][:, -1]


def torch_next_token_logits(
    pack_dir: Path, source_dir: Path, batch: Batch, tables: dict[str, Tensor], scale: float
) -> Tensor:
    manifest = load_manifest(pack_dir)
    hidden = _output(_adapted(pack_dir, source_dir, manifest, tables, scale), batch).last_hidden_state
    weights = WeightMap(pack_dir, manifest)
    table = weights.tensor("output.word" if "output.word" in weights else "embedding.word")
    return hidden @ torch.tensor(table, dtype=torch.float64).T


def _output(model: nn.Module, batch: Batch) -> transformers.modeling_outputs.ModelOutput:
    ids, mask = (torch.tensor(array, dtype=torch.long) for array in (batch.input_ids, batch.attention_mask))
    return model(input_ids=ids, attention_mask=mask)


def _adapted(
    pack_dir: Path, source_dir: Path, manifest: Manifest, tables: dict[str, Tensor], scale: float
) -> nn.Module:
    """The model of `source_dir` with the weights as the pack rounded them, and the ranks `tables`."""
    model = transformers.AutoModel.from_pretrained(source_dir, dtype=torch.float64, attn_implementation="eager")
    weights = WeightMap(pack_dir, manifest)
    model.eval().requires_grad_(False)
    for module in manifest.modules:
        linear = model.get_submodule(module.name)
        stored = torch.tensor(weights.tensor(f"block.{module.block}.{module.local}.weight"))
        linear.weight.copy_(stored if isinstance(linear, Conv1D) else stored.T)
        model.set_submodule(module.name, AdaptedLinear(linear, tables[module.name], scale))
    model.get_input_embeddings().weight.copy_(torch.tensor(weights.tensor("embedding.word")))
    if "pooler.weight" in weights:
        model.pooler.dense.weight.copy_(torch.tensor(weights.tensor("pooler.weight")).T)
    for name, parameter in model.named_parameters():
        if name.endswith(_POSITIONS):
            stored = torch.tensor(weights.tensor("embedding.position"))
            parameter[-len(stored) :] = stored
        elif name.endswith(_TOKEN_TYPES):
            parameter.zero_()  # is in the positions
    return model


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(hidden.dtype)[:, :, None]
    return (hidden * weights).sum(1) / weights.sum(1)


def _gradient(table: Tensor) -> np.ndarray:
    return (torch.zeros_like(table) if table.grad is None else table.grad).numpy()
