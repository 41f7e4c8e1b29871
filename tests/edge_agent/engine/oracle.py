"""The same adapted model in plain torch: transformers' own encoder in float64, with autograd for the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from edge_agent.engine.protocol import Batch, Gradients
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import Manifest, load_manifest
from edge_agent.wire.ranks import HEAD, Rows


class AdaptedLinear(nn.Module):
    """`W0 + s * B diag(E) A`, formed as a dense matrix: slow and plain."""

    def __init__(self, linear: nn.Linear, table: Tensor, scale: float) -> None:
        super().__init__()
        self.linear, self.table, self.scale = linear, table, scale

    def forward(self, x: Tensor) -> Tensor:
        d_in = self.linear.in_features
        A, E, B = self.table[:, :d_in], self.table[:, d_in], self.table[:, d_in + 1 :].T
        weight = self.linear.weight + self.scale * B @ torch.diag(E) @ A
        return nn.functional.linear(x, weight, self.linear.bias)


def torch_gradients(pack_dir: Path, source_dir: Path, batch: Batch, rows: Rows, scale: float) -> Gradients:
    """Loss and the gradient of every table."""
    tables = {name: torch.tensor(table, dtype=torch.float64, requires_grad=True) for name, table in rows.items()}
    logits = torch_logits(pack_dir, source_dir, batch, tables, scale)
    labels = torch.tensor(batch.labels, dtype=torch.long)
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    gradients = {name: _gradient(table) for name, table in tables.items()}
    return Gradients(loss.item(), gradients, int((logits.argmax(1) == labels).sum()))


def torch_logits(pack_dir: Path, source_dir: Path, batch: Batch, tables: dict[str, Tensor], scale: float) -> Tensor:
    manifest = load_manifest(pack_dir)
    model = _frozen(pack_dir, source_dir, manifest)
    for module in manifest.modules:
        linear = model.get_submodule(module.name)
        assert isinstance(linear, nn.Linear)
        model.set_submodule(module.name, AdaptedLinear(linear, tables[module.name], scale))
    mask = torch.tensor(batch.attention_mask, dtype=torch.long)
    output = model(input_ids=torch.tensor(batch.input_ids, dtype=torch.long), attention_mask=mask)
    pooled = _mean(output.last_hidden_state, mask) if manifest.pooling == "mean" else output.pooler_output
    return pooled @ tables[HEAD][:, :-1].T + tables[HEAD][:, -1]


def _frozen(pack_dir: Path, source_dir: Path, manifest: Manifest) -> nn.Module:
    """The model of `source_dir` with the weights as the pack rounded them."""
    model = transformers.AutoModel.from_pretrained(source_dir, dtype=torch.float64, attn_implementation="eager")
    weights = WeightMap(pack_dir, manifest)
    stored = {f"{m.name}.weight": weights.tensor(f"block.{m.block}.{m.local}.weight").T for m in manifest.modules}
    stored["embeddings.word_embeddings.weight"] = weights.tensor("embedding.word")
    stored["embeddings.position_embeddings.weight"] = weights.tensor("embedding.position")
    stored["embeddings.token_type_embeddings.weight"] = np.zeros((2, manifest.d_model))  # is in the positions
    stored["pooler.dense.weight"] = weights.tensor("pooler.weight").T
    model.load_state_dict({name: torch.tensor(array) for name, array in stored.items()}, strict=False)
    return model.eval().requires_grad_(False)


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(hidden.dtype)[:, :, None]
    return (hidden * weights).sum(1) / weights.sum(1)


def _gradient(table: Tensor) -> np.ndarray:
    return (torch.zeros_like(table) if table.grad is None else table.grad).numpy()
