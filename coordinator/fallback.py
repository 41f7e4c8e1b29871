"""When a round has made the model worse: which version to return to. Without I/O.

The devices measure the model that a round starts from on their hold-outs, so what round `r` did is known when round
`r + 1` closes. Where that is worse than the best so far by more than the margin, the updates of round `r + 1` are
dropped, for they were trained from the bad model, and the fleet goes on from the last version that was good.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


def last_good(measured: Mapping[int, float], version: int, margin: float, kept: Collection[int]) -> int | None:
    """The version to return to from `version`; None where it is good itself, or nothing better is kept.

    Args:
        measured: accuracy by version, as far as it was measured, that of `version` among them.
        version: the model that the closing round started from.
        margin: how far below the best accuracy a good one may be; 0 never returns.
        kept: versions whose checkpoint is still there.
    """
    if not margin or version not in measured:
        return None
    least = max(measured.values()) - margin
    if measured[version] >= least:
        return None
    return max((one for one in kept if one < version and measured.get(one, -1.0) >= least), default=None)
