"""The messages between agent and coordinator, and nothing about how they travel.

Each is an immutable msgspec structure, encoded as MessagePack inside a frame (see `frame`). The decoder takes only
the messages of its own direction and refuses unknown fields, wrong types and values out of range.

Protocol versions, newest first:
    6  2026-11-26  progress carries the temperature of the board.
    5  2026-11-26  plans say for how many rounds an update is still taken.
    4  2026-11-26  rounds for the axes of classes; statistics of classes have a layout of their own; AdamW's epsilon;
       chunks say their offset.
    3  2026-11-23  rounds for the means of classes; calibration of the loss.
    2  2026-11-23  kept blocks, steps down, and times by micro-batch.
    1  2026-11-22  first.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PROTOCOL = 6

Sha256 = Annotated[bytes, Meta(min_length=32, max_length=32)]
RunId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Count = Annotated[int, Meta(ge=0, le=2**40)]
Positive = Annotated[int, Meta(ge=1, le=2**40)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
REASON_CHARACTERS = 2000
Reason = Annotated[str, Meta(max_length=REASON_CHARACTERS)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0, le=10)]
Duration = Annotated[float, Meta(ge=0, le=10**12)]
"""Seconds or microseconds, as the field's name says; always a number."""
PlanWork = Literal["train", "class_means", "class_axes"]
Indices = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**24)], ...], Meta(min_length=1, max_length=4096)]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="t"):
    """Base of all messages; the subclass's name travels as its tag."""


class ObjectRef(Record, frozen=True):
    """Content by its hash: `kind` says what it is (`manifest`, `pack-file`, `delta`, `snapshot`, `update`)."""

    kind: Name
    sha256: Sha256
    size_bytes: Count


class Speed(Record, frozen=True):
    """How fast micro-batches of one size pass a block.

    Both passes take `fixed + token * s + pair * s*s` microseconds of one thread for one sequence of `s` tokens.
    """

    micro_batch: Positive
    forward_us: tuple[Duration, Duration, Duration]
    backward_us: tuple[Duration, Duration, Duration]
    """Without what is computed again on the way back."""


class CostTable(Record, frozen=True):
    """What one device measured of itself: the one table for planning, allocation and profiling.

    Peak anonymous memory of the trainer process in bytes is
    `base_bytes + token_bytes * a*s + pair_bytes * a*s*s` for `a` sequences of `s` tokens in a block at once, beside
    what the plan keeps (states, weights, adapters, optimizer: exact, see `wire.cost`).
    """

    base_bytes: Count
    token_bytes: Count
    pair_bytes: Count
    supervisor_bytes: Count
    file_bytes: Count
    """File-backed part of the process tree's RSS at its peak, libraries and mapped pages: not budgeted, but blocks are
    kept only where it has room too."""
    expand_us: Duration
    """Making the effective weights of one block, whatever then passes it."""
    speeds: Annotated[tuple[Speed, ...], Meta(min_length=1, max_length=16)]
    """By ascending micro-batch. Others are not planned with."""
    threads: Positive
    expands: bool = True
    """Whether effective weights are made: products of integers take the frozen ones as they are mapped."""


class Capability(Record, frozen=True):
    """What a device can do, as reported to the coordinator and as replayed from a capabilities file."""

    budget_bytes: Positive
    total_memory_bytes: Positive
    link_bytes_per_s: Positive
    cost: CostTable

    def __post_init__(self) -> None:
        """Plans begin with one sequence at a time."""
        if self.cost.speeds[0].micro_batch != 1:
            raise ValueError(f"Expected speeds from micro-batch 1 on, got {self.cost.speeds[0].micro_batch} first")


class Training(Record, frozen=True):
    """The settings of local training; the same for the whole fleet."""

    batch_size: Positive
    local_steps: Count
    """Optimizer steps a round; 0 means one epoch over the local data."""
    lr: Rate
    lr_e: Rate
    lr_head: Rate
    weight_decay: Annotated[float, Meta(ge=0, le=1)]
    epsilon: Annotated[float, Meta(gt=0, le=1)]
    """Of AdamW: gradients well below it move little."""
    scale: Annotated[float, Meta(gt=0, le=100)]
    """`s` in `W0 + s * B diag(E) A`."""
    max_tokens: Annotated[int, Meta(ge=8, le=4096)]
    calibration: Fraction
    """How far the loss makes up for the frequencies of the classes in the local data: 0 not at all, 1 fully."""
    importance: Name
    quantisation: Name


# Agent to coordinator


class Hello(Message, tag="hello", frozen=True):
    """First message of a connection. `pack` is the manifest hash of the pack on disk, if any."""

    agent_version: Name
    pack: Sha256 | None
    version: Count
    """Version of the model state on disk; 0 is the seed state, which needs no download."""


class Ready(Message, tag="ready", frozen=True):
    """The pack is on disk, the data was read, the device has measured itself."""

    pack: Sha256
    examples: Positive
    holdout: Count
    longest_tokens: Positive
    """Tokens of the longest local text, cut at the fleet's `max_tokens`."""
    version: Count
    capability: Capability


class Progress(Message, tag="progress", frozen=True):
    """Where a round stands; sent with QoS 0, so it may be lost."""

    round: Count
    phase: Name
    step: Count
    steps: Count
    loss: float
    temperature_c: float | None
    """Of the board's hottest part that it tells of; None where it tells of none, or its agent records nothing."""


class Declined(Message, tag="declined", frozen=True):
    """The device cannot take part; `smallest_budget_bytes` is set where memory is the reason."""

    round: Count
    reason: Reason
    smallest_budget_bytes: Count | None


class Offer(Message, tag="offer", frozen=True):
    """A finished update that the coordinator may pull."""

    round: Count
    update: ObjectRef
    report: RoundReport


class Finished(Message, tag="finished", frozen=True):
    """The final model is on disk and verified."""

    version: Count
    accuracy: Fraction | None
    bytes_up: Count
    bytes_down: Count
    pack_bytes_down: Count


class Offline(Message, tag="offline", frozen=True):
    """The last will, and the farewell of an orderly stop."""

    reason: Reason


# Coordinator to agent


class Welcome(Message, tag="welcome", frozen=True):
    """The terms of the fleet: which pack, which classes, which start.

    `run` is drawn anew with every run folder of the coordinator: a version of another run means nothing in this one.
    """

    fleet: Name
    run: RunId
    seed: Count
    slots: Positive
    classes: tuple[Name, ...]
    pack: ObjectRef
    training: Training


class Outdated(Message, tag="outdated", frozen=True):
    """A Hello was not new: the device's boot counter went back, as when its disk was replaced. It must go on above."""

    boot: Annotated[int, Meta(ge=0, le=2**32 - 2)]


class Plan(Message, tag="plan", frozen=True):
    """One device's part in one round.

    `deltas` lead from the version that the device last reported to `version`; `state_sha256` is the digest of the
    state they must yield. `trained` is the bit mask of the ranks to train, all in blocks of `lowest_block` and above.
    """

    round: Count
    rounds: Positive
    version: Count
    deltas: tuple[ObjectRef, ...]
    state_sha256: Sha256
    work: PlanWork
    """What the round is for: training, or statistics of the classes that the head starts from, their mean states alone
    or with the axes of what deviates from these."""
    trained: bytes
    budget_ranks: Positive
    """Ranks that the schedule lets live after this round, over the whole fleet: what a device votes on."""
    lowest_block: Count
    deadline_s: Annotated[float, Meta(gt=0)]
    late_rounds: Count
    """For how many rounds after this one its update is still taken."""


class Acknowledged(Message, tag="acknowledged", frozen=True):
    """The update of `round` is on the coordinator's disk."""

    round: Count
    sha256: Sha256


class Rejected(Message, tag="rejected", frozen=True):
    """Something from this device was refused, with the reason; `round` if it concerned one."""

    round: Count | None
    reason: Reason
    final: bool
    """True if trying again cannot help."""


class Final(Message, tag="final", frozen=True):
    """A model to predict with: bring the state to `version`, keep it, report `Finished`.

    It is the last one of the run, or that of a round in which the device does not train.
    """

    version: Count
    deltas: tuple[ObjectRef, ...]
    state_sha256: Sha256


class Leave(Message, tag="leave", frozen=True):
    """The run is over: the agent may stop."""

    reason: Reason


# Both ways: the pull of one object in chunks


class Want(Message, tag="want", frozen=True):
    """Asks for the chunks `indices` of an object, each `chunk_bytes` long bar the last."""

    sha256: Sha256
    chunk_bytes: Annotated[int, Meta(ge=256, le=2**24)]
    indices: Indices


class Chunk(Message, tag="chunk", frozen=True):
    """One chunk of an object, and where in it the chunk belongs: the sizes asked for may have changed meanwhile."""

    sha256: Sha256
    offset_bytes: Count
    data: bytes


class Missing(Message, tag="missing", frozen=True):
    """The object asked for is not (or no longer) here."""

    sha256: Sha256


class Phase(Record, frozen=True):
    """What one phase of a round cost. Memory is null where the system does not tell."""

    name: Name
    wall_s: float
    cpu_s: float
    """CPU time of the process that the phase ran in."""
    rss_bytes: Count
    anonymous_bytes: Count
    pss_bytes: Count | None
    uss_bytes: Count | None
    """The whole process tree at the end of the phase."""
    high_water_bytes: Count | None
    """The kernel's mark of the process that the phase ran in, since its start."""


class RoundReport(Record, frozen=True):
    """What a device says of its round, beside the update itself."""

    examples: Positive
    steps: Count
    """Optimizer steps; none in a round that only looks at the data, and then there is neither loss nor `step_s`."""
    loss: float | None
    holdout_correct: Count
    holdout_total: Count
    """Hold-out result of the model that the round started from."""
    micro_batch: Positive
    depth: Count
    kept_blocks: Count
    """With `micro_batch` and `depth`: what the last step trained with."""
    step_downs: Count
    """How often memory got short and the round went on with less than planned."""
    sequence_tokens: Positive
    ranks: Count
    predicted_bytes: Count
    peak_rss_bytes: Count
    peak_anonymous_bytes: Count
    """High-water marks of the whole process tree."""
    mapped_bytes: Count
    predicted_step_s: Duration
    step_s: float | None
    bytes_up: Count
    bytes_down: Count
    pack_bytes_down: Count
    """On the socket since the agent's state was made, MQTT overhead included."""
    phases: tuple[Phase, ...]


FromAgent = Hello | Ready | Progress | Declined | Offer | Finished | Offline | Want | Chunk | Missing
FromCoordinator = Welcome | Outdated | Plan | Acknowledged | Rejected | Final | Leave | Want | Chunk | Missing
