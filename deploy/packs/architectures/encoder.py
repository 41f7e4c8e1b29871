"""The block that encoders since BERT share: normalised behind each residual sum (arXiv 1706.03762, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from torch import Tensor

from deploy.packs.attention import Heads, attention
from deploy.packs.tape import Tape

from .parts import Block, Linear, take, transposed, weights_and_biases


@dataclass(frozen=True)
class Layers:
    """The local names that a family gives to the layers of its block."""

    query: str
    key: str
    value: str
    mixed: str
    attended: str
    """The norm behind attention."""
    wide: str
    narrow: str
    norm: str
    """The norm at the end of the block."""

    @property
    def tensors(self) -> list[str]:
        """The names of all of a block's tensors."""
        return weights_and_biases(astuple(self))


def encoder_block(layers: Layers, heads: Heads, act: str, eps: float) -> Block:
    """The block with the layers `layers`, the activation `act`, and norms with `eps`."""

    def norm(tape: Tape, x: str, name: str) -> str:
        return tape.layer_norm(x, f"{name}.weight", f"{name}.bias", eps)

    def block(tape: Tape, linear: Linear, x: str) -> str:
        q, k, v = linear(x, layers.query, layers.key, layers.value)
        (mixed,) = linear(attention(tape, q, k, v, heads), layers.mixed)
        attended = norm(tape, tape.add(mixed, x), layers.attended)
        (wide,) = linear(attended, layers.wide)
        (narrow,) = linear(tape.activation(wide, act), layers.narrow)
        return norm(tape, tape.add(narrow, attended), layers.norm)

    return block


def encoder_embeddings(state: Mapping[str, Tensor], *, first_position: int) -> dict[str, Tensor]:
    """`Parts.embeddings`, if the first token has the position `first_position`.

    Raises:
        PackError: names the first tensor that the model lacks.
    """
    names = {
        "word": "embeddings.word_embeddings.weight",
        "position": "embeddings.position_embeddings.weight",
        "norm.weight": "embeddings.LayerNorm.weight",
        "norm.bias": "embeddings.LayerNorm.bias",
    }
    tensors = take(state, names)
    return {**tensors, "position": tensors["position"][first_position:]}


def encoder_pooler(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`Parts.pooler`; empty if the model's files hold none."""
    if "pooler.dense.weight" not in state:
        return {}
    return transposed(take(state, {"weight": "pooler.dense.weight", "bias": "pooler.dense.bias"}))
