"""Which of the living ranks each device trains: the most important ones that its memory, time and link allow.

Everything follows from what the device measured of itself (`messages.Capability`), so a Zero and an Orin take part in
the same round, and the same capabilities give the same allocation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_agent.wire.cost import TRAINED_BYTES, ChosenPlan, Model, Shape, Work, peak_bytes, plan, step_s, usable_bytes
from edge_agent.wire.messages import Capability
from edge_agent.wire.quantise import Scheme
from edge_agent.wire.ranks import Layout, Mask

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """What a round asks of a device: `steps` optimizer steps within `train_s`, an upload within `upload_s`.

    `token_buckets` are the sequence lengths to choose from, the longest first; `model` is what the pack says of costs.
    """

    model: Model
    batch: int
    token_buckets: tuple[int, ...]
    steps: int
    train_s: float
    upload_s: float
    scheme: Scheme


@dataclass(frozen=True)
class Allocation:
    """One device's part: the ranks to train, none below `lowest_block`; `predicted` is the plan that it will find."""

    trained: Mask
    lowest_block: int
    predicted: ChosenPlan


def allocate(layout: Layout, mask: Mask, importance: Float64, capability: Capability, terms: Terms) -> Allocation:
    """The part of one device.

    Depth comes first: the most blocks from the top for which memory holds one rank of every living module, less if
    `train_s` is too short for them, but never less than the top block. Then ranks, the most important first
    (`importance` is `(modules, slots)`), while memory and link allow; without living ranks in reach the device
    trains the head alone, and `lowest_block` is then the number of blocks.

    Raises:
        BudgetError: if not even the top block and the head fit; it names the smallest budget that would do.
    """
    shape = _shape(layout, mask, terms)
    affordable = plan(capability, replace(shape, trained_parameters=_one_rank_each(layout, mask)))
    work = _work(shape, affordable.tokens, affordable.lowest_block)
    while work.depth > 1 and step_s(capability.cost, work) * terms.steps > terms.train_s:
        work = replace(work, lowest_block=work.lowest_block + 1)
    room = min(_memory_room(capability, work), _link_room(capability, work, terms))
    trained = _most_important(layout, mask, importance, work.lowest_block, room)
    lowest = min((m.block for m, slots in layout.living(trained) if len(slots)), default=layout.blocks)
    final = replace(
        shape,
        token_buckets=(work.tokens,),
        lowest_block=lowest,
        trained_parameters=_parameters_by_block(layout, trained),
    )
    return Allocation(trained, lowest, plan(capability, final))


def _shape(layout: Layout, mask: Mask, terms: Terms) -> Shape:
    """The round as a device plans it if it trains nothing; nothing lives below the lowest block."""
    living = [module.block for module, slots in layout.living(mask) if len(slots)]
    return Shape(
        model=terms.model,
        batch=terms.batch,
        token_buckets=terms.token_buckets,
        lowest_block=min(living, default=layout.blocks),
        living_parameters=layout.parameters(mask),
        trained_parameters=(0,) * layout.blocks,
        head_parameters=layout.classes * (layout.d_model + 1),
    )


def _work(shape: Shape, tokens: int, lowest_block: int) -> Work:
    """The smallest step at a depth: one sequence at a time, nothing kept, no ranks yet."""
    return Work(
        model=shape.model,
        micro_batch=1,
        kept_blocks=0,
        tokens=tokens,
        batch=shape.batch,
        lowest_block=lowest_block,
        living_parameters=shape.living_parameters,
        trained_parameters=0,
        head_parameters=shape.head_parameters,
    )


def _memory_room(capability: Capability, work: Work) -> int:
    """Parameters that memory has room to train."""
    usable = usable_bytes(capability.budget_bytes)
    return (usable - peak_bytes(capability.cost, work)) // TRAINED_BYTES


def _link_room(capability: Capability, work: Work, terms: Terms) -> int:
    """Parameters that the link carries in time, beside the head."""
    bits = 8 * capability.link_bytes_per_s * terms.upload_s
    return int(bits / terms.scheme.bits) - work.head_parameters


def _most_important(layout: Layout, mask: Mask, importance: Float64, lowest_block: int, room: int) -> Mask:
    """Ranks of blocks from `lowest_block` up, in order of importance, while their parameters fit into `room`.

    Ties spread over the modules: all first slots, from the top module down, then all second slots, and so on.
    """
    reachable = mask & (np.array([m.block for m in layout.modules]) >= lowest_block)[:, None]
    module, slot = np.nonzero(reachable)
    order = np.lexsort([-module, slot, -importance[reachable]])
    widths = np.array([m.width for m in layout.modules], dtype=np.int64)[module[order]]
    fitting = order[np.cumsum(widths) <= room]
    trained = np.zeros_like(mask)
    trained[module[fitting], slot[fitting]] = True
    return trained


def _one_rank_each(layout: Layout, mask: Mask) -> tuple[int, ...]:
    """Parameters by block if one rank of every living module is trained."""
    one_each = np.zeros_like(mask)
    one_each[:, 0] = mask.any(axis=1)
    return _parameters_by_block(layout, one_each)


def _parameters_by_block(layout: Layout, trained: Mask) -> tuple[int, ...]:
    parameters = [0] * layout.blocks
    for module, slots in layout.living(trained):
        parameters[module.block] += len(slots) * module.width
    return tuple(parameters)
