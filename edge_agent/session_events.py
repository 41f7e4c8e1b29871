"""What happens to an agent's session, and what the session has done about it (see `session`).

Events are what the shell tells; the coordinator's own messages are events too. Actions are what the shell carries out.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.wire import messages as m
from edge_agent.wire.crash_points import Point


@dataclass(frozen=True)
class Connected:
    """The link is up."""


@dataclass(frozen=True)
class Disconnected:
    """The link is down; it reconnects by itself."""


@dataclass(frozen=True)
class PackReady:
    """Every file of the pack is on disk and verified."""


@dataclass(frozen=True)
class Measured:
    """The data was read and the device's capability is known."""

    examples: int
    holdout: int
    longest_tokens: int
    capability: m.Capability


@dataclass(frozen=True)
class Fetched:
    """The objects that `Fetch` asked for are on disk and verified."""


@dataclass(frozen=True)
class FetchFailed:
    """The coordinator no longer has an object that was asked for."""


@dataclass(frozen=True)
class Trained:
    """The round's update is in the outbox."""

    offer: m.Offer


@dataclass(frozen=True)
class FinalKept:
    """The final model is on disk."""

    finished: m.Finished


@dataclass(frozen=True)
class JobFailed:
    """The trainer process failed; `smallest_budget_bytes` is set where memory is the reason. Where it was `killed` by a
    signal, the job itself may be sound."""

    reason: str
    smallest_budget_bytes: int | None = None
    killed: bool = False
    told: str | None = None
    """What the coordinator may know of the reason, where that is not all of it."""


@dataclass(frozen=True)
class DataChanged:
    """The data files are others than when they were last measured."""


@dataclass(frozen=True)
class Reconfigured:
    """Settings changed that the device's Ready rests on: its data, budget, threads or engine."""


@dataclass(frozen=True)
class Tick:
    """Time passes; `now_s` is monotonic."""

    now_s: float


Event = (
    Connected
    | Disconnected
    | PackReady
    | Measured
    | Fetched
    | FetchFailed
    | Trained
    | FinalKept
    | JobFailed
    | DataChanged
    | Reconfigured
    | Tick
    | m.Welcome
    | m.Plan
    | m.Acknowledged
    | m.Rejected
    | m.Final
    | m.Leave
)


# Actions


@dataclass(frozen=True)
class Send:
    """Send a message to the coordinator."""

    message: m.Message


@dataclass(frozen=True)
class Join:
    """Remember the fleet's terms; `fresh` if the model state and the outbox belong to other terms: drop them."""

    welcome: m.Welcome
    fresh: bool


@dataclass(frozen=True)
class FetchPack:
    """Bring the pack to disk: the manifest, then the files that it lists."""

    manifest: m.ObjectRef


@dataclass(frozen=True)
class Measure:
    """Read the data and measure the device (or replay a recorded capability)."""

    welcome: m.Welcome


@dataclass(frozen=True)
class Fetch:
    """Bring these objects to disk."""

    refs: tuple[m.ObjectRef, ...]


@dataclass(frozen=True)
class Train:
    """Run one round in a trainer process."""

    plan: m.Plan


@dataclass(frozen=True)
class KeepFinal:
    """Bring the state to the final version and keep it for prediction."""

    final: m.Final


@dataclass(frozen=True)
class StopJob:
    """Stop the trainer process, if one runs."""


@dataclass(frozen=True)
class Settle:
    """The update of this round is safe with the coordinator: drop it from the outbox."""

    round: int


@dataclass(frozen=True)
class Discard:
    """The coordinator will never take the update of this round: drop it, and what it did to the residual."""

    round: int


@dataclass(frozen=True)
class Exit:
    """End the agent. `failure` is None for an orderly end."""

    failure: str | None


Action = Send | Join | FetchPack | Measure | Fetch | Train | KeepFinal | StopJob | Settle | Discard | Exit


HEARD: dict[type, Point] = {
    m.Welcome: Point.AGENT_WELCOME_HEARD,
    PackReady: Point.AGENT_PACK_COMPLETE,
    Measured: Point.AGENT_MEASURED,
    m.Plan: Point.AGENT_PLAN_HEARD,
    Fetched: Point.AGENT_DELTAS_COMPLETE,
    Trained: Point.AGENT_UPDATE_MADE,
    m.Acknowledged: Point.AGENT_ACKNOWLEDGEMENT_HEARD,
    m.Final: Point.AGENT_FINAL_HEARD,
    FinalKept: Point.AGENT_FINAL_KEPT,
}
"""Where a test may have the agent die: at an event, before anything is done about it."""
DONE: dict[type, Point] = {
    m.Hello: Point.AGENT_HELLO_SENT,
    Join: Point.AGENT_TERMS_KEPT,
    Measure: Point.AGENT_MEASURING,
    m.Ready: Point.AGENT_READY_SENT,
    Train: Point.AGENT_TRAINING,
    m.Offer: Point.AGENT_OFFER_SENT,
    Settle: Point.AGENT_SETTLED,
    m.Finished: Point.AGENT_FINISHED_SENT,
}
"""Likewise behind an action, or a message that was sent."""
