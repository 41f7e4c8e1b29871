"""One training step of plain torch: transformers' encoder, the same adapters, autograd, AdamW."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import transformers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from edge_agent.wire.errors import EngineError

from .batch import random_batch
from .spec import CLASSES, TorchSpec, Work

SCALE = 2.0
LEARNING_RATE = 1e-4


class Output(NamedTuple):
    """What a model that is given labels yields."""

    loss: Tensor
    logits: Tensor


class Classifier(nn.Module):
    """An encoder, the mean over its tokens, and a linear head."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Output:
        """Token ids and mask `(b, s)`, labels `(b,)`."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        shares = attention_mask[:, :, None] / attention_mask.sum(1)[:, None, None]
        logits = self.head((hidden * shares).sum(1))
        return Output(nn.functional.cross_entropy(logits, labels), logits)


class AdaptedLinear(nn.Module):
    """`W0 x + bias + s * B (E * (A x))`, with `A (r, d_in)`, `E (r,)` and `B (d_out, r)` trained (arXiv 2501.14406)."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.A = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.E = nn.Parameter(torch.zeros(rank))
        self.B = nn.Parameter(torch.randn(linear.out_features, rank) / linear.out_features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., d_in)` -> `(..., d_out)`."""
        return self.linear(x) + SCALE * (((x @ self.A.T) * self.E) @ self.B.T)


def make_torch_step(spec: TorchSpec) -> Callable[[], float]:
    """The step. Raises as `frozen_classifier` and `check_linear`."""
    model = frozen_classifier(spec.model_dir, spec.work)
    for name in spec.modules:
        linear = check_linear(model.encoder, name)
        model.encoder.set_submodule(name, AdaptedLinear(linear, spec.work.rank))
    for name in spec.checkpointed:
        checkpoint_block(model.encoder.get_submodule(name))
    return training_step(model, spec.work, vocabulary(model))


def frozen_classifier(model_dir: str, work: Work) -> Classifier:
    """The encoder in `model_dir`, frozen, no dropout, with the attention that transformers chooses; a fresh head."""
    torch.set_num_threads(work.threads)
    torch.manual_seed(work.seed)
    config = transformers.AutoConfig.from_pretrained(model_dir)
    for name in vars(config):
        if "dropout" in name:
            setattr(config, name, 0.0)
    encoder = transformers.AutoModel.from_pretrained(model_dir, config=config).float().requires_grad_(False)
    return Classifier(encoder, config.hidden_size).train()


def checkpoint_block(block: nn.Module) -> None:
    """Lets `block` keep its input alone, and compute the rest again on the way back (arXiv 1604.06174).

    As transformers' own gradient checkpointing does, which not every model has.
    """
    block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def check_linear(encoder: nn.Module, name: str) -> nn.Linear:
    """The linear layer `name`.

    Raises:
        EngineError: the model has none of that name.
    """
    found = dict(encoder.named_modules()).get(name)
    if not isinstance(found, nn.Linear):
        raise EngineError(
            f"expected a linear layer {name!r} in the model, got {type(found).__name__}: use another model"
        )
    return found


def vocabulary(model: Classifier) -> int:
    """Number of tokens that the encoder knows."""
    return model.encoder.config.vocab_size  # type: ignore[union-attr, return-value]


def training_step(
    model: nn.Module, work: Work, tokens: int, after: Callable[[], None] | None = None
) -> Callable[[], float]:
    """Forward, backward, AdamW over what `model` trains, and `after`, if given, before the gradients go."""
    numpy_ids, numpy_labels = random_batch(work, tokens)
    ids, labels = torch.from_numpy(numpy_ids).long(), torch.from_numpy(numpy_labels).long()
    mask = torch.ones_like(ids)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)

    def step() -> float:
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        if after is not None:
            after()
        optimizer.zero_grad()
        return float(loss.detach())

    return step
