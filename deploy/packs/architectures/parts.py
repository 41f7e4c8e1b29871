"""What every family of models is taken apart into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from deploy.packs.tape import ACTIVATIONS, Tape
from edge_agent.wire.errors import PackError


class Linear(Protocol):
    """Applies linear layers of the block, ranks and bias included, to their common input."""

    def __call__(self, x: str, *modules: str) -> list[str]:
        """`(n, d_in)` -> one `(n, d_out)` a module."""


Block = Callable[[Tape, Linear, str], str]
"""Writes a block: the tape, its linear layers, `x (n, d)` -> `y (n, d)`. Frozen tensors are values under their local
names."""


@dataclass(frozen=True)
class Parts:
    """A model as a pack sees it.

    `blocks` holds the frozen tensors of each block by local name, alike in every block: matrices are `(d_in, d_out)`
    and named `<module>.weight`; each of them is a module to adapt, called `module_prefix.<block>.<module>`.
    `embeddings` has `word` and, where the model has them, `position` (row 0 is the first token's; constant rows such
    as the token type's are added in), `norm.weight` and `norm.bias`. `pooler` has `weight` `(d, d)` and `bias`, or is
    empty. In a `causal` model a token sees those before it only.

    `context` holds what depends on positions and is common to all blocks: `relative` `(2 * max_tokens - 1, heads)`,
    the bias of a key by its place after its query, farthest before first; `cos` and `sin` `(max_tokens, size)`, which
    turn a head, the first half of `sin` negated. `final` has the `norm.weight` behind the last block and, unless it is
    a root mean square norm, `norm.bias`. `output` has the `word` `(vocabulary, d)` that gives the logits of the next
    token, unless that is the embedding's.
    """

    block: Block
    heads: int
    max_tokens: int
    pad_token_id: int
    module_prefix: str
    blocks: tuple[dict[str, Tensor], ...]
    embeddings: dict[str, Tensor]
    norm_eps: float
    pooler: dict[str, Tensor] = field(default_factory=dict)
    context: dict[str, Tensor] = field(default_factory=dict)
    final: dict[str, Tensor] = field(default_factory=dict)
    output: dict[str, Tensor] = field(default_factory=dict)
    causal: bool = False

    @property
    def d_model(self) -> int:
        """Width of the hidden states."""
        return self.embeddings["word"].shape[1]

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """Local name -> `(d_in, d_out)` of every linear layer of a block."""
        matrices = {name: w.shape for name, w in self.blocks[0].items() if w.dim() == 2}
        return {name.removesuffix(".weight"): (shape[0], shape[1]) for name, shape in matrices.items()}


def activation(name: str) -> str:
    """`name`, if it is an activation that blocks can compute.

    Raises:
        PackError: it is not.
    """
    if name not in ACTIVATIONS:
        raise PackError(f"activation {name!r} is not supported: expected one of {', '.join(sorted(ACTIVATIONS))}")
    return name


def take(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors `{ours: theirs}` under our names.

    Raises:
        PackError: names the first tensor that the model lacks.
    """
    for theirs in names.values():
        if theirs not in state:
            raise PackError(f"the model has no tensor {theirs!r}: its files are incomplete or of another kind")
    return {ours: state[theirs] for ours, theirs in names.items()}


def take_blocks(
    state: Mapping[str, Tensor], prefix: str, count: int, tensors: Iterable[str]
) -> tuple[dict[str, Tensor], ...]:
    """The `tensors` of the blocks `prefix.0` to `prefix.<count - 1>`, by local name.

    Raises:
        PackError: names the first tensor that the model lacks.
    """
    names = list(tensors)
    return tuple(take(state, {name: f"{prefix}.{index}.{name}" for name in names}) for index in range(count))


def weights_and_biases(layers: Iterable[str]) -> list[str]:
    """The names of the tensors of `layers`."""
    return [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def transposed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as `(d_in, d_out)` instead of `(d_out, d_in)`; the rest unchanged."""
    return {name: tensor.t() if tensor.dim() == 2 else tensor for name, tensor in tensors.items()}


def next_token_output(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`Parts.output` of a model whose files hold a layer for it; without one its embedding is taken."""
    return take(state, {"word": "lm_head.weight"}) if "lm_head.weight" in state else {}


def padding_token(config: Any) -> int:
    """The token to pad with. Models that were trained without padding name none: what is masked may be any token."""
    return 0 if config.pad_token_id is None else config.pad_token_id


def require(config: Any, key: str, expected: Any) -> None:
    """Refuses a variant of a family whose blocks compute something else.

    Raises:
        PackError: the configuration sets `key` to something other than `expected`.
    """
    value = getattr(config, key, expected)
    if value != expected:
        raise PackError(f"models with {key} = {value!r} are not supported: only {expected!r} is")
