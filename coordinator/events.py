"""What the coordinator tells whoever watches it: one structure an event, also printed as JSON lines."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from edge_agent.wire import messages as m


class Watched(msgspec.Struct, frozen=True, tag_field="event"):
    """Base of all events."""


class Listening(Watched, frozen=True, tag="listening"):
    """The coordinator is connected to its broker."""

    host: str
    port: int
    fleet: str


class Mended(Watched, frozen=True, tag="mended"):
    """Something in the run folder was damaged: the run goes on from `version`, of the `newest` that was closed."""

    version: int
    newest: int
    reason: str


class Joined(Watched, frozen=True, tag="joined"):
    """A device is online and prepared."""

    device: str
    examples: int
    budget_bytes: int


class Left(Watched, frozen=True, tag="left"):
    """A device went offline."""

    device: str
    reason: str


class Waiting(Watched, frozen=True, tag="waiting"):
    """Nothing can go on until something changes."""

    reason: str


class Opened(Watched, frozen=True, tag="opened"):
    """A round began; `work` is what it is for."""

    round: int
    rounds: int
    cohort: tuple[str, ...]
    ranks_alive: int
    work: m.PlanWork


class Training(Watched, frozen=True, tag="training"):
    """A device reports progress. `loss` is None where it is not finite: training diverged; `temperature_c` where the
    board does not tell."""

    device: str
    round: int
    phase: str
    step: int
    steps: int
    loss: float | None
    temperature_c: float | None


class Received(Watched, frozen=True, tag="received"):
    """A device's update is on disk."""

    device: str
    round: int
    report: m.RoundReport


class Refused(Watched, frozen=True, tag="refused"):
    """A device declined, or something it sent was refused."""

    device: str
    reason: str
    smallest_budget_bytes: int | None = None


class Flooding(Watched, frozen=True, tag="flooding"):
    """A device sends faster than it may: what is too much is dropped. Told once, until it keeps to the limit again."""

    device: str
    messages_per_s: float


class Objective(Watched, frozen=True, tag="objective"):
    """A service level is missed, or met again: `value` is beyond `bound`, or within it. `date` is UTC, by the clock."""

    name: str
    met: bool
    value: float
    bound: float
    date: str


class RoundRecord(msgspec.Struct, frozen=True):
    """What a closed round leaves on record. `accuracy` is of the model that the round started from, over the hold-outs
    of its contributors; None where they hold nothing out. `loss` is None where nobody trained. Late updates tell of
    older models, and are in neither. Bytes are sizes of the encoded objects."""

    round: int
    version: int
    contributors: tuple[str, ...]
    examples: int
    loss: float | None
    accuracy: float | None
    ranks_alive: int
    modules_alive: int
    budget_ranks: int
    needed_ranks: int | None
    """How many ranks hold nearly all importance, and how far the devices' votes agreed (see `automatic`); None where
    nobody trained."""
    agreement: float | None
    updates_bytes: int
    delta_bytes: int
    wall_s: float
    returned_to: int | None = None
    """The earlier version that the fleet returned to, whose state is that of `version`; None if it went on."""
    late: dict[str, int] = {}
    """By how many rounds the updates were late that were, by device: these weigh less in `examples`."""


class Closed(Watched, frozen=True, tag="closed"):
    """A round was aggregated and checkpointed."""

    record: RoundRecord


class Finished(Watched, frozen=True, tag="finished"):
    """A device holds the final model."""

    device: str
    finished: m.Finished


class Done(Watched, frozen=True, tag="done"):
    """The run is over; `missing` are devices that did not confirm the final model."""

    rounds: int
    missing: tuple[str, ...]


def training(device: str, message: m.Progress) -> Training:
    """What `device` said; a figure that is not finite becomes None."""
    loss, temperature_c = (
        None if figure is None or not math.isfinite(figure) else figure
        for figure in (message.loss, message.temperature_c)
    )
    return Training(device, message.round, message.phase, message.step, message.steps, loss, temperature_c)


AnyEvent = (
    Listening | Mended | Joined | Left | Waiting | Opened | Training | Received | Refused | Flooding | Objective
    | Closed | Finished | Done
)  # fmt: skip
Watch = Callable[[Watched], None]
