"""Defaults of releases that their command line shows."""

from __future__ import annotations

from dataclasses import dataclass

BROKER_PORT = 8883
"""Where boards reach the broker unless they are told otherwise."""


@dataclass(frozen=True)
class Limits:
    """How long an operation waits for what."""

    idle_s: float = 3600.0
    """For the end of a round."""
    steady_s: float = 20.0
    """That the agent must stay up after it was started."""
    poll_s: float = 1.0
    """Between two looks at it."""


DEFAULT_LIMITS = Limits()
