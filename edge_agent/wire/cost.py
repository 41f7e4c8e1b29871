"""What a round costs a device, from the one table that the device measured: memory, time, and the plan that fits.

Pure functions without numpy: the resident supervisor plans with them, the coordinator allocates with them.

Peak bytes that count against the budget (anonymous memory of the process tree, plus the mapped working set), for a
batch of `b` sequences of `s` tokens, `a = min(b, threads * m)` of them in a block at once in micro-batches of `m`, with
`k` trained blocks of which `n` are kept::

    supervisor + base                       processes, libraries, sessions
    + token * a*s + pair * a*s*s            what is inside of a block while its micro-batches pass
    + 4 * a*s * outputs            (n < k)  what the linear layers of one block put out, computed again
    + 4 * b*s * outputs * n                 the same of the kept blocks, for the whole batch
    + 4 * parameters * min(n + 1, blocks)   effective weights, where they are made: of the kept
                                            blocks, and of the one at work
    + 4 * b*s*d_model * (k + below + 1)     outputs of the trained blocks, states below them, and the gradient
    + 8 * (living + head)                   values of the state, and the compact copy that is trained
    + 24 * (trained + head)                 gradient, two moments, scratch of the optimizer, residual, change to send
    + mapped                                frozen weights of the blocks at work, as the pack declares

`below` is 1 if one block or none lies below the trained ones, and else 2: the states of those below take turns.
`outputs` and `parameters` are those of one block, `blocks` of the model.

A step takes `expand` for each block on the way up and for each on the way back that was not kept; and for every
sequence that one thread takes in its turn, the forward time of as many blocks and the way back of the trained ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .errors import BudgetError, EngineError
from .messages import Capability, CostTable, Speed
from .pack import Manifest

FLOAT_BYTES = 4
LIVING_BYTES = 2 * FLOAT_BYTES
TRAINED_BYTES = 6 * FLOAT_BYTES
PLAN_PERCENT = 95
MICRO_BATCHES = (1, 2, 4, 8)
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Sequence lengths, in tokens, that batches are padded to: shapes repeat, and little is padded."""
_US_PER_S = 1e6


@dataclass(frozen=True)
class Model:
    """What the costs depend on of a pack. `block_parameters` are the frozen ones of one block, `block_outputs` the
    numbers that its linear layers put out for a token."""

    blocks: int
    d_model: int
    block_parameters: int
    block_outputs: int
    mapped_bytes: int


@dataclass(frozen=True)
class Work:
    """One optimizer step: `batch` sequences of `tokens`, `micro_batch` of them at a time in each thread.

    Blocks from `lowest_block` up are trained; `lowest_block == model.blocks` means the head alone. Of those, the
    `kept_blocks` uppermost are kept.
    """

    model: Model
    micro_batch: int
    kept_blocks: int
    tokens: int
    batch: int
    lowest_block: int
    living_parameters: int
    trained_parameters: int
    head_parameters: int

    @property
    def depth(self) -> int:
        """Trained blocks."""
        return self.model.blocks - self.lowest_block


@dataclass(frozen=True)
class Shape:
    """What is fixed before a device plans a round.

    `trained_parameters[b]` are the adapter parameters that block `b` would train; `token_buckets` the sequence
    lengths to choose from, the one that loses nothing first; `lowest_block` the deepest that the coordinator asks.
    """

    model: Model
    batch: int
    token_buckets: tuple[int, ...]
    lowest_block: int
    living_parameters: int
    trained_parameters: tuple[int, ...]
    head_parameters: int


@dataclass(frozen=True)
class ChosenPlan:
    """How a device will train, and what it expects of it."""

    micro_batch: int
    kept_blocks: int
    tokens: int
    lowest_block: int
    predicted_bytes: int
    predicted_step_s: float


def model_of(manifest: Manifest) -> Model:
    """What a pack's manifest says of the costs; its blocks are alike."""
    shapes = [manifest.tensors[f"block.0.{name}"].shape for name in manifest.block_weights]
    return Model(
        blocks=manifest.blocks,
        d_model=manifest.d_model,
        block_parameters=sum(math.prod(shape) for shape in shapes),
        block_outputs=sum(module.d_out for module in manifest.modules if module.block == 0),
        mapped_bytes=manifest.mapped_working_set_bytes,
    )


def peak_bytes(cost: CostTable, work: Work) -> int:
    """Predicted peak, as the module's formula says."""
    model, head = work.model, work.head_parameters
    at_once = at_once_tokens(work, cost.threads)
    inside = cost.token_bytes * at_once + cost.pair_bytes * at_once * work.tokens
    values = LIVING_BYTES * (work.living_parameters + head) + TRAINED_BYTES * (work.trained_parameters + head)
    scratch = FLOAT_BYTES * (_scratch(work, at_once) + _weights(work) * cost.expands)
    return cost.supervisor_bytes + cost.base_bytes + inside + scratch + values + model.mapped_bytes


def step_s(cost: CostTable, work: Work) -> float:
    """Predicted seconds of one optimizer step.

    Raises:
        EngineError: a micro-batch that the device has not measured.
    """
    speed = speed_of(cost, work.micro_batch)
    passes = work.model.blocks + max(0, work.depth - work.kept_blocks)
    turn = in_turn(work.batch, work.micro_batch, cost.threads)
    sequence_us = passes * _us(speed.forward_us, work.tokens) + work.depth * _us(speed.backward_us, work.tokens)
    return (passes * cost.expand_us + turn * sequence_us) / _US_PER_S


def at_once_tokens(work: Work, threads: int) -> int:
    """Tokens that are in a block together."""
    return min(work.batch, threads * work.micro_batch) * work.tokens


def in_turn(batch: int, micro_batch: int, threads: int) -> int:
    """Sequences that a thread takes one micro-batch after the other: the most that any of them gets."""
    return min(batch, micro_batch * math.ceil(math.ceil(batch / micro_batch) / threads))


def speed_of(cost: CostTable, micro_batch: int) -> Speed:
    """What the device measured of a micro-batch.

    Raises:
        EngineError: nothing.
    """
    for speed in cost.speeds:
        if speed.micro_batch == micro_batch:
            return speed
    known = ", ".join(str(speed.micro_batch) for speed in cost.speeds)
    raise EngineError(f"the device has measured micro-batches of {known}, not of {micro_batch}: measure it again")


def plan(capability: Capability, shape: Shape) -> ChosenPlan:
    """The best plan within the budget: the most tokens, with them the most depth, with it the fastest.

    So the sequence is shortened last: that loses data, less depth loses only parameters, and a smaller micro-batch and
    fewer kept blocks nothing but time. Blocks are kept only where the file-backed pages find room in the budget too:
    these do not count, but what buys nothing but time must not drive them out of memory.

    Raises:
        BudgetError: if nothing fits; it names the smallest budget that would do.
    """
    cost, usable = capability.cost, usable_bytes(capability.budget_bytes)
    smallest = []
    for work in _works(shape):
        plans = [_chosen(cost, candidate) for candidate in _candidates(cost, work)]
        fitting = [candidate for candidate in plans if candidate.predicted_bytes <= usable]
        if fitting:
            frugal = [one for one in fitting if not one.kept_blocks or one.predicted_bytes + cost.file_bytes <= usable]
            return min(frugal, key=lambda chosen: (chosen.predicted_step_s, chosen.predicted_bytes))
        smallest.append(min(candidate.predicted_bytes for candidate in plans))
    raise too_small(capability.budget_bytes, min(smallest))


def usable_bytes(budget_bytes: int) -> int:
    """What of a budget to plan with: predictions are off by a few percent, and a round must not run into its end."""
    return budget_bytes * PLAN_PERCENT // 100


def budget_for(plan_bytes: int) -> int:
    """The smallest budget in which a plan of `plan_bytes` fits."""
    return -(-plan_bytes * 100 // PLAN_PERCENT)


def too_small(budget_bytes: int, smallest_bytes: int) -> BudgetError:
    """The error for a budget in which nothing fits, when the smallest plan takes `smallest_bytes`."""
    return refusal(budget_bytes, budget_for(smallest_bytes))


def refusal(budget_bytes: int, smallest_budget_bytes: int) -> BudgetError:
    """The error for a budget in which nothing fits, which names one that does."""
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


def _works(shape: Shape) -> Iterator[Work]:
    """All lengths and depths in order of preference, each with the least memory."""
    start = Work(
        model=shape.model,
        micro_batch=1,
        kept_blocks=0,
        tokens=1,
        batch=shape.batch,
        lowest_block=shape.model.blocks,
        living_parameters=shape.living_parameters,
        trained_parameters=0,
        head_parameters=shape.head_parameters,
    )
    for tokens in shape.token_buckets:
        # The head alone is a plan only where the coordinator asked for no more.
        for lowest in range(shape.lowest_block, max(shape.model.blocks, shape.lowest_block + 1)):
            trained = sum(shape.trained_parameters[lowest:])
            yield replace(start, tokens=tokens, lowest_block=lowest, trained_parameters=trained)


def _candidates(cost: CostTable, work: Work) -> Iterator[Work]:
    """Every way to do `work` that the device has measured."""
    for speed in cost.speeds:
        if speed.micro_batch <= work.batch:
            for kept in range(work.depth + 1):
                yield replace(work, micro_batch=speed.micro_batch, kept_blocks=kept)


def _chosen(cost: CostTable, work: Work) -> ChosenPlan:
    return ChosenPlan(
        micro_batch=work.micro_batch,
        kept_blocks=work.kept_blocks,
        tokens=work.tokens,
        lowest_block=work.lowest_block,
        predicted_bytes=peak_bytes(cost, work),
        predicted_step_s=step_s(cost, work),
    )


def _scratch(work: Work, at_once: int) -> int:
    """Numbers that the engine keeps from step to step; `at_once` tokens are in a block together."""
    model, batch_tokens = work.model, work.batch * work.tokens
    below = max(1, min(2, work.lowest_block))
    states = batch_tokens * model.d_model * (work.depth + below + 1)
    again = at_once if work.kept_blocks < work.depth else 0
    return states + model.block_outputs * (work.kept_blocks * batch_tokens + again)


def _weights(work: Work) -> int:
    """Numbers of the effective weights that are there together."""
    return work.model.block_parameters * min(work.kept_blocks + 1, work.model.blocks)


def _us(terms: tuple[float, float, float], tokens: int) -> float:
    fixed, token, pair = terms
    return fixed + token * tokens + pair * tokens * tokens
