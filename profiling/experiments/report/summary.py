"""The product and the published method against their peers, over all data sets, by how uneven the split is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from .cells import Arm, Cell, Group, alpha_order
from .names import BASELINE, PRODUCT, PUBLISHED, STRONG
from .rows import bytes_to_baseline, profile_key
from .statistics import Estimate, Ratio, estimate, geometric, paired


class Summary(msgspec.Struct, frozen=True):
    """One method at one alpha against peers that all have the same extras, or none.

    Means are over pairs on the same data set and seed. Every pair counts alike and is taken as independent of the
    others: data sets are not weighted, and an interval tells of these data sets, not of others.
    """

    model: str
    profile: str
    alpha: float | None
    method: str
    extras: str
    peers_extras: str
    datasets: tuple[str, ...]
    """Those on which the method and FedLoRA with these extras were run."""
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
    """For each alpha, from even to uneven: the product and the published method against the peers as published, then
    against those that have extras, the published method with the same."""
    alphas = sorted({cell.alpha for cell in group.cells}, key=alpha_order)
    return [
        _summary(group, alpha, arm, peers_extras, cells)
        for alpha in alphas
        for peers_extras in sorted({arm.extras for arm in group.options if arm.method == BASELINE} | {""})
        for arm in (Arm(PRODUCT, ""), Arm(PUBLISHED, peers_extras))
        if (cells := _cells(group, alpha, arm, peers_extras))
    ]


def _cells(group: Group, alpha: float | None, arm: Arm, peers_extras: str) -> list[Cell]:
    """Those that the arm was run in; against extras, only those in which a peer has them."""
    cells = [cell for cell in group.cells if cell.alpha == alpha and arm in cell.arms]
    return [cell for cell in cells if not peers_extras or cell.seeds(BASELINE, peers_extras)]


def _summary(group: Group, alpha: float | None, arm: Arm, peers_extras: str, cells: Sequence[Cell]) -> Summary:
    both = [(cell.arms[arm], cell.seeds(BASELINE, peers_extras)) for cell in cells]
    pairs = [pair for ours, baseline in both for pair in paired(ours, baseline)]
    needed = [pair for ours, baseline in both for pair in bytes_to_baseline(ours, baseline)]
    ratios = [ours / own for ours, own in needed if ours is not None]
    return Summary(
        model=group.model,
        profile=profile_key(group.profile),
        alpha=alpha,
        method=arm.method,
        extras=arm.extras,
        peers_extras=peers_extras,
        datasets=tuple(cell.dataset for cell in cells),
        difference_to_fedlora=estimate([one.accuracy - base.accuracy for one, base in pairs]),
        difference_to_strong_peers=estimate(
            [value for cell in cells for value in _to_strong_peers(cell, arm, peers_extras)]
        ),
        bytes_ratio_to_fedlora=geometric(ratios) if len(ratios) == len(needed) else None,
        reached=len(ratios),
        compared=len(needed),
        total_bytes_ratio_to_fedlora=geometric([one.bytes_total / base.bytes_total for one, base in pairs]),
    )


def _to_strong_peers(cell: Cell, arm: Arm, extras: str) -> list[float]:
    peers = [cell.seeds(name, extras) for name in STRONG]
    return [
        result.accuracy - statistics.fmean(peer[seed].accuracy for peer in peers)
        for seed, result in cell.arms[arm].items()
        if all(seed in peer for peer in peers)
    ]
