"""What every family of models is taken apart into, and the layer that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from edge_agent.wire.errors import PackError


class Adapter(NamedTuple):
    """The ranks of one linear layer: `A (r, d_in)`, `E (r,)` with the scale in it, `B (r, d_out)`."""

    A: Tensor
    E: Tensor
    B: Tensor


Weights = Mapping[str, Tensor]
Adapters = Mapping[str, Adapter]
Block = Callable[[Tensor, Tensor, Weights, Adapters], Tensor]
"""`(x (b, s, d), additive mask (b, 1, 1, s), weights, adapters) -> y (b, s, d)`."""


@dataclass(frozen=True)
class Parts:
    """A model as a pack sees it.

    `blocks` holds the frozen tensors of each block by local name, alike in every block: matrices are `(d_in, d_out)`
    and named `<module>.weight`; each of them is a module to adapt, called `module_prefix.<block>.<module>`.
    `embeddings` has `word` and, where the model has them, `position` (row 0 is the first token's; constant rows such
    as the token type's are added in), `norm.weight` and `norm.bias`. `pooler` has `weight` `(d, d)` and `bias`, or is
    empty.
    """

    block: Block
    heads: int
    max_tokens: int
    pad_token_id: int
    module_prefix: str
    blocks: tuple[dict[str, Tensor], ...]
    embeddings: dict[str, Tensor]
    embedding_norm_eps: float
    pooler: dict[str, Tensor] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """Local name -> `(d_in, d_out)` of every linear layer of a block."""
        matrices = {name: w.shape for name, w in self.blocks[0].items() if w.dim() == 2}
        return {name.removesuffix(".weight"): (shape[0], shape[1]) for name, shape in matrices.items()}


def adapted(x: Tensor, name: str, weights: Weights, adapters: Adapters) -> Tensor:
    """`x W + bias + ((x A^T) * E) B`, the adapted linear layer `name`, for `x (tokens of all examples, d_in)`."""
    A, E, B = adapters[name]
    delta = torch.addmm(weights[f"{name}.bias"], torch.matmul(x, A.t()) * E, B)
    return torch.addmm(delta, x, weights[f"{name}.weight"])


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Multi-head attention of `(b * s, d)` under an additive mask `(b, 1, 1, s)`."""
    batch, tokens, (rows, d_model) = mask.shape[0], mask.shape[3], q.shape

    def split(t: Tensor) -> Tensor:
        return t.reshape(batch, tokens, heads, d_model // heads).transpose(1, 2)

    # Scaling q instead of the scores touches fewer numbers.
    scores = torch.matmul(split(q * (d_model // heads) ** -0.5), split(k).transpose(2, 3))
    mixed = torch.matmul(torch.softmax(scores + mask, dim=-1), split(v))
    return mixed.transpose(1, 2).reshape(rows, d_model)


def layer_norm(x: Tensor, name: str, weights: Weights, eps: float) -> Tensor:
    """Layer normalisation over the last dimension."""
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation that a configuration calls `name`.

    Raises:
        PackError: an activation that is not supported.
    """
    if name not in _ACTIVATIONS:
        raise PackError(f"activation {name!r} is not supported: expected one of {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]


def take(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors `{ours: theirs}` under our names.

    Raises:
        PackError: names the first tensor that the model lacks.
    """
    for theirs in names.values():
        if theirs not in state:
            raise PackError(f"the model has no tensor {theirs!r}: its files are incomplete or of another kind")
    return {ours: state[theirs] for ours, theirs in names.items()}


def transposed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as `(d_in, d_out)` instead of `(d_out, d_in)`; the rest unchanged."""
    return {name: tensor.t() if tensor.dim() == 2 else tensor for name, tensor in tensors.items()}


def require(config: Any, key: str, expected: Any) -> None:
    """Refuses a variant of a family whose blocks compute something else.

    Raises:
        PackError: the configuration sets `key` to something other than `expected`.
    """
    value = getattr(config, key, expected)
    if value != expected:
        raise PackError(f"models with {key} = {value!r} are not supported: only {expected!r} is")
