"""Chooses how this device trains a round, from its cost table and the lengths of its own texts."""

from __future__ import annotations

from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import HEAD, Mask
from edge_agent.workspace import Workspace


def choose_plan(
    space: Workspace, capability: m.Capability, living: Mask, allowed: Mask, lowest_block: int, longest: int
) -> cost.ChosenPlan:
    """The plan for training `allowed` of `living` ranks from `lowest_block` up, on texts of at most `longest` tokens.

    Raises:
        BudgetError: nothing fits; names the smallest budget that would do.
    """
    layout, buckets = space.layout, space.tokeniser(space.max_tokens).buckets
    fitting = cost.bucket(max(longest, 1), buckets)
    per_block = [0] * layout.blocks
    for module, slots in layout.living(allowed):
        per_block[module.block] += len(slots) * module.width
    shape = cost.Shape(
        model=cost.model_of(space.manifest),
        batch=space.terms.welcome.training.batch_size,
        token_buckets=tuple(sorted((b for b in buckets if b <= fitting), reverse=True)),
        lowest_block=lowest_block,
        living_parameters=layout.parameters(living),
        trained_parameters=tuple(per_block),
        head_parameters=layout.tables[HEAD].rows * layout.tables[HEAD].width,
    )
    return cost.plan(capability, shape)
