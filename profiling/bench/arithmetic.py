"""How many floating-point operations a training step needs, whatever an engine spends on it."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.wire.pack import Manifest

from .spec import Work

_PER_PRODUCT = 2  # a multiplication and an addition


def step_flops(manifest: Manifest, work: Work, ranks: Sequence[int]) -> int:
    """Operations of the dense products of one step: the frozen matrices and attention's own products.

    A frozen matrix counts once forward and once back to its input, `4 * tokens * d_in * d_out` in all, the two
    products of attention once forward and twice back, `12 * batch * tokens^2 * d_model` a block. The way back is
    counted for the blocks from the lowest with living `ranks` on. Computing again what was not kept is not counted,
    nor are the ranks themselves, norms and activations: an engine that spends time on them has a smaller share.
    """
    living = [module.block for module, count in zip(manifest.modules, ranks, strict=True) if count]
    lowest = min(living, default=manifest.blocks)
    all_tokens = work.batch * work.tokens
    matrices = dict.fromkeys(range(manifest.blocks), 0)
    for module in manifest.modules:
        matrices[module.block] += _PER_PRODUCT * all_tokens * module.d_in * module.d_out
    attention = 2 * _PER_PRODUCT * all_tokens * work.tokens * manifest.d_model
    forward = sum(matrices.values()) + manifest.blocks * attention
    back = sum(flops + 2 * attention for block, flops in matrices.items() if block >= lowest)
    return forward + back


def products_flops(shapes: Sequence[tuple[int, int]], work: Work) -> int:
    """Operations of one `ProductsSpec` step."""
    return 2 * _PER_PRODUCT * work.batch * work.tokens * sum(d_in * d_out for d_in, d_out in shapes)
