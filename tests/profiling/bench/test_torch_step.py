from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import load_manifest
from profiling.bench.spec import TorchSpec, Work
from profiling.bench.torch_step import AdaptedLinear, check_linear, checkpoint_block, frozen_classifier, make_torch_step
from tests.models import tiny_pack, tiny_source

WORK = Work(batch=4, tokens=8, rank=2, threads=1, seed=0)
MODULES = tuple(module.name for module in load_manifest(tiny_pack()).modules)
BLOCKS = ("encoder.layer.0", "encoder.layer.2")
MODEL = str(tiny_source(tiny_pack()))


def test_steps_lower_the_loss_and_checkpointing_changes_nothing() -> None:
    eager, checkpointing = (make_torch_step(TorchSpec("x", WORK, MODEL, MODULES, names)) for names in ((), BLOCKS))
    losses = [eager() for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    np.testing.assert_allclose([checkpointing() for _ in range(4)], losses, rtol=1e-5)


def test_a_checkpointed_block_is_computed_again() -> None:
    calls: list[int] = []
    block = torch.nn.Linear(3, 3)
    block.register_forward_hook(lambda *_: calls.append(1))
    inner = torch.nn.Sequential(block, torch.nn.GELU())
    checkpoint_block(inner)
    inner(torch.randn(2, 3, requires_grad=True)).sum().backward()
    assert len(calls) == 2


def test_the_adapter_is_the_papers() -> None:
    adapted = AdaptedLinear(torch.nn.Linear(6, 5), 3)
    adapted.E.data.normal_()
    x = torch.randn(2, 4, 6)
    update = adapted.B @ torch.diag(adapted.E) @ adapted.A
    torch.testing.assert_close(adapted(x), adapted.linear(x) + 2.0 * x @ update.T)


def test_only_the_adapters_and_the_head_are_trained_and_nothing_drops_out() -> None:
    model = frozen_classifier(MODEL, WORK)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert all(module.p == 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))


def test_a_module_that_is_no_linear_layer_is_named() -> None:
    with pytest.raises(EngineError, match=r"expected a linear layer 'pooler\.nothing' in the model, got NoneType"):
        check_linear(frozen_classifier(MODEL, WORK).encoder, "pooler.nothing")
