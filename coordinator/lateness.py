"""Updates that come after their round closed: which are still taken, and what they weigh.

A late update is a change of an older model, counted in the round that is open when it comes. Its weight falls with its
staleness, polynomially as in FedAsync (Xie et al., arXiv 1903.03934, section 5.2). Ranks that were pruned meanwhile
stay pruned: the change of those is left out.
"""

from __future__ import annotations

import enum

from coordinator.round import Part, Phase, State


class Place(enum.Enum):
    """Where an update that a device offers could count."""

    OPEN = "open"
    """In the round that it was made for."""
    LATE = "late"
    """In the open round, which is a later one."""
    NOT_YET = "not yet"
    """In the next round, once that is open."""
    NONE = "none"


def place_of(state: State, device: str, number: int) -> Place:
    """Where an update of `device` that was made for round `number` could count.

    A device counts once in a round, so it has no place in one that holds an update of it.
    """
    part, late_rounds = state.parts.get(device), state.settings.late_rounds
    if state.phase is Phase.OPEN:
        if number == state.round:
            return Place.OPEN if part is Part.PENDING else Place.NONE
        taken = 0 < state.round - number <= late_rounds and part is not Part.STORED
        return Place.LATE if taken else Place.NONE
    if state.phase is Phase.FINISHED:
        return Place.NONE
    return Place.NOT_YET if 0 <= state.round - number < late_rounds else Place.NONE


def weight(examples: int, late_rounds: int, exponent: float) -> int:
    """What an update of so many examples weighs that comes so many rounds late; at least one example."""
    return max(1, round(examples * (1.0 + late_rounds) ** -exponent))
