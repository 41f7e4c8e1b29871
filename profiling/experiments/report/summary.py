"""The product and the published method against their peers, over all data sets, by how uneven the split is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from .cells import Cell, Group, alpha_order
from .names import BASELINE, PRODUCT, PUBLISHED, STRONG
from .rows import bytes_to_baseline, profile_key
from .statistics import Estimate, Ratio, estimate, geometric, paired


class Summary(msgspec.Struct, frozen=True):
    """One method, without extras, at one alpha; its peers are without extras too.

    Means are over pairs on the same data set and seed. Every pair counts alike and is taken as independent of the
    others: data sets are not weighted, and an interval tells of these data sets, not of others.
    """

    model: str
    profile: str
    alpha: float | None
    method: str
    datasets: tuple[str, ...]
    """Those on which the method was run."""
    difference_to_fedlora: Estimate | None
    """Of accuracy after the last round."""
    difference_to_strong_peers: Estimate | None
    """From the mean of FFA-LoRA, FlexLoRA, FedEx-LoRA and LoRA-A2, on the seeds that all four have."""
    bytes_ratio_to_fedlora: Ratio | None
    """Bytes until FedLoRA's final accuracy, divided by FedLoRA's own; null unless all pairs reach it."""
    reached: int
    """How many pairs reach FedLoRA's final accuracy."""
    compared: int
    """How many pairs there are."""
    total_bytes_ratio_to_fedlora: Ratio | None
    """Bytes of all rounds, divided by FedLoRA's."""


def summarise(group: Group) -> list[Summary]:
    """For each alpha, from even to uneven, the methods that were run."""
    alphas = sorted({cell.alpha for cell in group.cells}, key=alpha_order)
    return [
        _summary(group, alpha, method, cells)
        for alpha in alphas
        for method in (PRODUCT, PUBLISHED)
        if (cells := [cell for cell in group.cells if cell.alpha == alpha and cell.seeds(method)])
    ]


def _summary(group: Group, alpha: float | None, method: str, cells: Sequence[Cell]) -> Summary:
    pairs = [pair for cell in cells for pair in paired(cell.seeds(method), cell.seeds(BASELINE))]
    needed = [pair for cell in cells for pair in bytes_to_baseline(cell.seeds(method), cell.seeds(BASELINE))]
    ratios = [ours / own for ours, own in needed if ours is not None]
    return Summary(
        model=group.model,
        profile=profile_key(group.profile),
        alpha=alpha,
        method=method,
        datasets=tuple(cell.dataset for cell in cells),
        difference_to_fedlora=estimate([one.accuracy - base.accuracy for one, base in pairs]),
        difference_to_strong_peers=estimate([value for cell in cells for value in _to_strong_peers(cell, method)]),
        bytes_ratio_to_fedlora=geometric(ratios) if len(ratios) == len(needed) else None,
        reached=len(ratios),
        compared=len(needed),
        total_bytes_ratio_to_fedlora=geometric([one.bytes_total / base.bytes_total for one, base in pairs]),
    )


def _to_strong_peers(cell: Cell, method: str) -> list[float]:
    peers = [cell.seeds(name) for name in STRONG]
    return [
        result.accuracy - statistics.fmean(peer[seed].accuracy for peer in peers)
        for seed, result in cell.seeds(method).items()
        if all(seed in peer for peer in peers)
    ]
