"""A tiny model of a family as `take_apart` sees it: its configuration and its tensors, to be changed."""

from __future__ import annotations

from typing import Any

import torch

from tests.models import FAMILIES


def tiny(family: str, **settings: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    of_family, common = FAMILIES[family]
    model = of_family(of_family.config_class(**{"vocab_size": 10, **common, **settings}))
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    return model.config, {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items()}
