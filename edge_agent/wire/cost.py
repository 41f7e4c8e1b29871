"""What a round costs a device, from the one table that the device measured: memory, time, and the plan that fits.

Pure functions without numpy: the resident supervisor plans with them, the coordinator allocates with them.

Peak bytes that count against the budget (anonymous memory of the process tree, plus the mapped working set)::

    supervisor + base                       processes, libraries, sessions
    + token * m*s + pair * m*s*s            activations of one micro-batch of m sequences of s tokens in one block
    + 4 * batch*s*d_model * (k + 1)         inputs of the k trained blocks, and the hidden states on the move
    + 8 * (living + head)                   values of the state, and the compact copy that is trained
    + 24 * (trained + head)                 gradient, two moments, scratch of the optimizer, residual, change to send
    + mapped                                frozen weights of the blocks at work, as the pack declares
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .errors import BudgetError, EngineError
from .messages import Capability, CostTable

FLOAT_BYTES = 4
LIVING_BYTES = 2 * FLOAT_BYTES
TRAINED_BYTES = 6 * FLOAT_BYTES
PLAN_PERCENT = 95
MICRO_BATCHES = (8, 4, 2, 1)
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Sequence lengths, in tokens, that batches are padded to: shapes repeat, and little is padded."""
_US_PER_S = 1e6


@dataclass(frozen=True)
class Work:
    """One optimizer step: `batch` sequences of `tokens`, `micro_batch` of them at a time.

    Blocks from `lowest_block` up are trained; `lowest_block == blocks` means the head alone.
    """

    micro_batch: int
    tokens: int
    batch: int
    lowest_block: int
    blocks: int
    d_model: int
    living_parameters: int
    trained_parameters: int
    head_parameters: int

    @property
    def depth(self) -> int:
        """Trained blocks."""
        return self.blocks - self.lowest_block


@dataclass(frozen=True)
class Shape:
    """What is fixed before a device plans a round.

    `trained_parameters[b]` are the adapter parameters that block `b` would train; `token_buckets` the sequence
    lengths to choose from, the one that loses nothing first; `lowest_block` the deepest that the coordinator asks.
    """

    batch: int
    token_buckets: tuple[int, ...]
    lowest_block: int
    d_model: int
    living_parameters: int
    trained_parameters: tuple[int, ...]
    head_parameters: int
    mapped_bytes: int


@dataclass(frozen=True)
class ChosenPlan:
    """How a device will train, and what it expects of it."""

    micro_batch: int
    tokens: int
    lowest_block: int
    predicted_bytes: int
    predicted_step_s: float


def peak_bytes(cost: CostTable, work: Work, mapped_bytes: int) -> int:
    """Predicted peak, as the module's formula says."""
    at_once = work.micro_batch * work.tokens
    activations = cost.token_bytes * at_once + cost.pair_bytes * at_once * work.tokens
    hidden = FLOAT_BYTES * work.batch * work.tokens * work.d_model * (work.depth + 1)
    values = LIVING_BYTES * (work.living_parameters + work.head_parameters)
    training = TRAINED_BYTES * (work.trained_parameters + work.head_parameters)
    return cost.supervisor_bytes + cost.base_bytes + activations + hidden + values + training + mapped_bytes


def step_s(cost: CostTable, work: Work) -> float:
    """Predicted seconds of one optimizer step: all blocks forward, the trained ones backward, for each sequence."""
    forward = _block_us(cost.forward_us, work.tokens) * work.blocks
    backward = _block_us(cost.backward_us, work.tokens) * work.depth
    return work.batch * (forward + backward) / _US_PER_S


def plan(capability: Capability, shape: Shape) -> ChosenPlan:
    """The best plan within the budget: the most tokens, with them the most depth, with it the largest micro-batch.

    So the sequence is shortened last: that loses data, less depth loses only parameters, and a smaller micro-batch
    nothing but a little time.

    Raises:
        BudgetError: if nothing fits; it names the smallest budget that would do.
    """
    candidates = [(peak_bytes(capability.cost, work, shape.mapped_bytes), work) for work in _candidates(shape)]
    for predicted, work in candidates:
        if predicted <= usable_bytes(capability.budget_bytes):
            seconds = step_s(capability.cost, work)
            return ChosenPlan(work.micro_batch, work.tokens, work.lowest_block, predicted, seconds)
    raise too_small(capability.budget_bytes, min(predicted for predicted, _ in candidates))


def usable_bytes(budget_bytes: int) -> int:
    """What of a budget to plan with: predictions are off by a few percent, and a round must not run into its end."""
    return budget_bytes * PLAN_PERCENT // 100


def budget_for(plan_bytes: int) -> int:
    """The smallest budget in which a plan of `plan_bytes` fits."""
    return -(-plan_bytes * 100 // PLAN_PERCENT)


def too_small(budget_bytes: int, smallest_bytes: int) -> BudgetError:
    """The error for a budget in which nothing fits, when the smallest plan takes `smallest_bytes`."""
    smallest_budget_bytes = budget_for(smallest_bytes)
    return BudgetError(
        f"a budget of {budget_bytes} bytes fits no plan; the smallest that does is {smallest_budget_bytes} bytes: "
        "raise memory.budget_bytes on this device, or use a smaller model or shorter texts",
        smallest_budget_bytes,
    )


def buckets_up_to(max_tokens: int) -> tuple[int, ...]:
    """Lengths to pad to, ascending: the common ones below `max_tokens`, and that itself."""
    return (*(b for b in BUCKETS if b < max_tokens), max_tokens)


def bucket(length: int, buckets: Sequence[int] = BUCKETS) -> int:
    """The smallest of the ascending `buckets` that holds `length` tokens.

    Raises:
        EngineError: none of them does.
    """
    for tokens in buckets:
        if length <= tokens:
            return tokens
    raise EngineError(f"a sequence of {length} tokens is longer than the largest bucket, {buckets[-1]} tokens: cut it")


def micro_batches(batch: int) -> tuple[int, ...]:
    """Micro-batches to try, the largest first."""
    return tuple(size for size in MICRO_BATCHES if size <= batch)


def _candidates(shape: Shape) -> Iterator[Work]:
    """All works in order of preference."""
    blocks = len(shape.trained_parameters)
    start = Work(
        micro_batch=1,
        tokens=1,
        batch=shape.batch,
        lowest_block=blocks,
        blocks=blocks,
        d_model=shape.d_model,
        living_parameters=shape.living_parameters,
        trained_parameters=0,
        head_parameters=shape.head_parameters,
    )
    for tokens in shape.token_buckets:
        # The head alone is a plan only where the coordinator asked for no more.
        for lowest in range(shape.lowest_block, max(blocks, shape.lowest_block + 1)):
            trained = sum(shape.trained_parameters[lowest:])
            deep = replace(start, tokens=tokens, lowest_block=lowest, trained_parameters=trained)
            for size in micro_batches(shape.batch):
                yield replace(deep, micro_batch=size)


def _block_us(terms: tuple[float, float, float], tokens: int) -> float:
    fixed, token, pair = terms
    return fixed + token * tokens + pair * tokens * tokens
