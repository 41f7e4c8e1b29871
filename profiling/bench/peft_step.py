"""One training step of PEFT's LoRA (arXiv 2106.09685) and AdaLoRA (arXiv 2303.10512), at their defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import peft

from .spec import PeftSpec
from .torch_step import check_linear, frozen_classifier, training_step, vocabulary

SCHEDULED_STEPS = 10_000
"""Length of AdaLoRA's schedule: longer than any benchmark, so that every step is one of its middle phase."""


def make_peft_step(spec: PeftSpec) -> Callable[[], float]:
    """The step. AdaLoRA's has its regulariser, and then its scores and its allocation, down to half of the ranks.

    Raises as `frozen_classifier` and `check_linear`.
    """
    model = frozen_classifier(spec.model_dir, spec.work)
    for name in spec.modules:
        check_linear(model.encoder, name)
    tokens = vocabulary(model)
    adapted = peft.get_peft_model(model, _config(spec))
    if spec.method == "lora":
        return training_step(adapted, spec.work, tokens)
    counted, adalora = iter(range(1, SCHEDULED_STEPS)), cast(Any, adapted.base_model)
    return training_step(adapted, spec.work, tokens, lambda: adalora.update_and_allocate(next(counted)))


def _config(spec: PeftSpec) -> peft.PeftConfig:
    targets = [f"encoder.{name}" for name in spec.modules]
    common: dict[str, Any] = {"target_modules": targets, "lora_dropout": 0.0, "modules_to_save": ["head"]}
    rank = spec.work.rank
    if spec.method == "lora":
        return peft.LoraConfig(r=rank, **common)
    return peft.AdaLoraConfig(init_r=rank, target_r=rank // 2, tinit=0, total_step=SCHEDULED_STEPS, **common)
