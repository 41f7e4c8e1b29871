from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from deploy.packs.architectures import parts
from deploy.packs.tape import ACTIVATIONS
from edge_agent.wire.errors import PackError

STATE = {
    f"layer.{index}.{name}": torch.full((2, 3), float(index)) for index in range(2) for name in ("q.weight", "k.weight")
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_known_activations_are_taken(name: str) -> None:
    assert parts.activation(name) == name


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(PackError, match="'mish' is not supported: expected one of gelu"):
        parts.activation("mish")


def test_the_blocks_are_taken_in_their_order() -> None:
    blocks = parts.take_blocks(STATE, "layer", 2, ["q.weight", "k.weight"])
    assert [list(block) for block in blocks] == [["q.weight", "k.weight"]] * 2
    assert [float(block["k.weight"][0, 0]) for block in blocks] == [0, 1]


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(PackError, match=r"layer\.2\.q\.weight"):
        parts.take_blocks(STATE, "layer", 3, ["q.weight"])


def test_only_matrices_are_transposed() -> None:
    turned = parts.transposed({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})
    assert [tensor.shape for tensor in turned.values()] == [(3, 2), (2,)]


def test_the_names_of_layers_tensors() -> None:
    assert parts.weights_and_biases(["a", "b"]) == ["a.weight", "a.bias", "b.weight", "b.bias"]


def test_a_layer_of_its_own_gives_the_next_token() -> None:
    head = torch.ones(4, 2)
    assert parts.next_token_output({"lm_head.weight": head}) == {"word": head}
    assert parts.next_token_output({}) == {}


@pytest.mark.parametrize(("configured", "taken"), [(None, 0), (0, 0), (7, 7)])
def test_a_model_without_padding_token_is_padded_with_any(configured: int | None, taken: int) -> None:
    assert parts.padding_token(SimpleNamespace(pad_token_id=configured)) == taken


def test_a_variant_is_refused_and_a_missing_setting_is_none() -> None:
    config = SimpleNamespace(is_decoder=True)
    parts.require(config, "is_decoder", True)
    parts.require(config, "absent", False)
    with pytest.raises(PackError, match="is_decoder = True are not supported: only False"):
        parts.require(config, "is_decoder", False)
