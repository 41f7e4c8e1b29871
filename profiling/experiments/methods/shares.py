"""The ranks that a device with less room trains, for methods that give every module the same rank."""

from __future__ import annotations

import numpy as np

from edge_agent.wire.ranks import Mask


def first_slots(alive: Mask, share: float) -> Mask:
    """In every module the first `share` of its living slots, at least one: a rank as small as the device's room."""
    room = np.maximum(1, np.floor(share * alive.sum(axis=1)))
    return alive & (np.cumsum(alive, axis=1) <= room[:, None])
