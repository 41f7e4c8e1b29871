"""The coordinator's configuration file (TOML). Every field is one setting; `docs/configuration.md` lists them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_agent.wire import messages as m
from edge_agent.wire import topics
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.malformed import MALFORMED
from edge_agent.wire.settings import BrokerSettings, load_toml, read_text

Seconds = Annotated[float, Meta(gt=0, le=10**7)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Target = Annotated[float, Meta(gt=0, le=256)]
MEDIAN_TRIM = 0.5
"""Leaving out so much at either end leaves the median."""


class RoundSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When rounds open and close."""

    rounds: m.Positive = 12
    expected: m.Positive = 1
    """Devices to wait for before the first round opens, for at most `gather_s`."""
    gather_s: Seconds = 600.0
    quorum: m.Positive = 1
    """Fewest updates that make a round."""
    deadline_s: Seconds = 3600.0
    """A round closes at its deadline with the updates it has, if they make a quorum."""
    grace_s: Seconds = 120.0
    """How long a round waits for a device that went offline in it."""
    silence_s: Seconds = 150.0
    """A device of which nothing is heard for so long counts as offline; agents speak every 30 seconds."""
    cohort: m.Count = 0
    """Updates that a round needs no more than: it closes with so many. 0: every ready device takes part."""
    over_selection: Annotated[float, Meta(ge=1, le=10)] = 1.0
    """How many times as many devices as `cohort` get a plan, drawn anew each round: the slowest are not waited for."""
    late_rounds: m.Count = 0
    """For how many rounds after its own an update is still taken, into the round that is open then; 0: not at all."""
    late_exponent: Annotated[float, Meta(ge=0, le=10)] = 0.5
    """One that is late by `n` rounds weighs `(1 + n) ** -late_exponent` of its examples."""


class RankSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many ranks live, and who decides."""

    initial: Annotated[int, Meta(ge=1, le=256)] = 4
    """Ranks of every module at the start."""
    target: Target | Literal["auto"] = 2.0
    """Mean ranks of a module at the end; `auto`: as many as the rounds show to be needed, in place of the schedule."""
    warmup_rounds: m.Count = 2
    final_rounds: m.Count = 3
    threshold: Fraction | Literal["auto"] = "auto"
    """Share of votes, weighted by examples, with which a rank is kept; `auto`: what it would have by chance."""


class AggregationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How updates become one; see `coordinator.aggregate` and `coordinator.robust`."""

    rule: Literal["mean", "trimmed_mean", "median"] = "mean"
    """`mean`: weighted by examples; the others are robust, count devices alike, and hold all updates in memory."""
    trim: Annotated[float, Meta(gt=0, le=0.5)] = 0.2
    """Of `trimmed_mean`: share of the devices whose numbers are left out, at either end."""

    @property
    def left_out(self) -> float | None:
        """Share of the devices left out at either end; None for the weighted mean."""
        return {"mean": None, "trimmed_mean": self.trim, "median": MEDIAN_TRIM}[self.rule]


class GuardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device may send; see `coordinator.guard`."""

    rms_limit: Annotated[float, Meta(gt=0, le=64)] = 2.0
    """Largest root mean square of the numbers of an update of training."""
    beyond: Literal["reject", "clip"] = "reject"
    """What happens to an update beyond it."""
    messages_per_s: Annotated[float, Meta(gt=0, le=10**6)] = 200.0
    """Messages that a device may send, ten seconds' worth at once; what is more is dropped, and the device named."""


class FallbackSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the coordinator returns to an earlier model; see `coordinator.fallback`."""

    margin: Fraction = 0.2
    """How far the accuracy on the devices' hold-outs may fall below the best so far; 0: it never returns."""


class ObjectiveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Service levels; see `coordinator.objectives`. A bound of 0 is none."""

    round_s: Annotated[float, Meta(ge=0, le=10**7)] = 0.0
    """A round is closed so long after it opened."""
    devices: m.Count = 0
    """So many devices are online."""
    accuracy: Fraction = 0.0
    """The model is right so often on the devices' hold-outs."""
    update_age_s: Annotated[float, Meta(ge=0, le=10**8)] = 0.0
    """Every device gave an update so recently."""
    webhook: Annotated[str, Meta(pattern="^(https?://.+)?$")] = ""
    """Where every change is posted as JSON."""
    topic: bool = False
    """Whether every change is published as JSON on `rankfleet/<fleet>/coordinator/events`."""


class TrainingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Local training; see `edge_agent.wire.messages.Training`."""

    batch_size: m.Positive = 16
    local_steps: m.Count = 0
    """Optimizer steps of a device in a round; 0 is one epoch over its data."""
    lr: m.Rate = 9e-3
    lr_e: m.Rate = 9e-2
    """Learning rate of `E`, which starts at zero: until it moves, `A` and `B` have no gradient."""
    lr_head: m.Rate = 6e-3
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.0
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    scale: Annotated[float, Meta(gt=0, le=100)] = 2.0
    max_tokens: Annotated[int, Meta(ge=8, le=4096)] = 128
    calibration: Fraction = 1.0
    """How far a device's loss makes up for how rare or frequent each class is in its own data."""
    importance: Literal["magnitude", "sensitivity", "energy"] = "magnitude"
    quantisation: Literal["fp32", "fp16", "int8", "int4"] = "int4"


class HeadSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The classifier on top of the model."""

    start: Literal["seed", "class_means", "discriminant"] = "discriminant"
    """All but `seed` spend the first round on statistics of the classes, which the head starts from: `class_means` on
    the mean state of each, `discriminant` also on how examples deviate from it."""

    def first_work(self) -> m.PlanWork:
        """What the first round is for."""
        return _FIRST_WORK[self.start]


_FIRST_WORK: dict[str, m.PlanWork] = {"seed": "train", "class_means": "class_means", "discriminant": "class_axes"}


class CoordinatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fleet and its run."""

    fleet: str
    pack: Path
    classes: tuple[m.Name, ...]
    run_dir: Path
    users_file: Path | None = None
    """`name:password` lines for the embedded broker, `coordinator` among them. Unset: an external broker is used."""
    revoked_file: Path | None = None
    """Names of devices that are shut out, one a line; read again while it runs."""
    broker: BrokerSettings = BrokerSettings()
    home_assistant: bool = False
    """Whether Home Assistant is told of the boards, by its MQTT discovery."""
    seed: m.Count = 0
    round: RoundSettings = RoundSettings()
    ranks: RankSettings = RankSettings()
    aggregation: AggregationSettings = AggregationSettings()
    guard: GuardSettings = GuardSettings()
    fallback: FallbackSettings = FallbackSettings()
    objectives: ObjectiveSettings = ObjectiveSettings()
    head: HeadSettings = HeadSettings()
    training: TrainingSettings = TrainingSettings()

    def message_training(self) -> m.Training:
        """The training settings as the devices get them."""
        return m.Training(**msgspec.structs.asdict(self.training))


def load(path: Path) -> CoordinatorConfig:
    """The configuration in `path`; relative paths in it are relative to its folder.

    Raises:
        ConfigError: the file is missing or malformed, or a setting is unknown, out of range or contradicts another.
    """
    config = load_toml(path, CoordinatorConfig)
    _check(path, config)
    here = path.resolve().parent
    return msgspec.structs.replace(
        config,
        pack=here / config.pack,
        run_dir=here / config.run_dir,
        users_file=None if config.users_file is None else here / config.users_file,
        revoked_file=None if config.revoked_file is None else here / config.revoked_file,
        broker=config.broker.resolve(here),
    )


def _check(path: Path, config: CoordinatorConfig) -> None:
    topics.check_name(config.fleet, f"{path}: fleet")
    _check_broker(path, config)
    if len(set(config.classes)) < max(2, len(config.classes)):
        raise ConfigError(f"{path}: classes must be two or more different names, got {list(config.classes)}")
    if config.round.quorum > config.round.expected:
        raise ConfigError(
            f"{path}: round.quorum ({config.round.quorum}) is more than round.expected ({config.round.expected}): "
            "no round could ever close"
        )
    if 0 < config.round.cohort < config.round.quorum:
        raise ConfigError(
            f"{path}: round.cohort ({config.round.cohort}) is less than round.quorum ({config.round.quorum}): "
            "no round could ever close"
        )
    if config.ranks.target != "auto" and config.ranks.target > config.ranks.initial:
        raise ConfigError(
            f"{path}: ranks.target ({config.ranks.target}) is above ranks.initial ({config.ranks.initial}): "
            "ranks are only ever pruned"
        )
    if config.head.start != "seed" and config.round.rounds < 2:
        raise ConfigError(
            f'{path}: head.start = "{config.head.start}" takes the first round, which leaves none of round.rounds '
            f'({config.round.rounds}) to train in: add rounds, or set head.start = "seed"'
        )
    if config.ranks.warmup_rounds + config.ranks.final_rounds >= config.round.rounds:
        raise ConfigError(
            f"{path}: ranks.warmup_rounds ({config.ranks.warmup_rounds}) and ranks.final_rounds "
            f"({config.ranks.final_rounds}) must leave at least one of round.rounds ({config.round.rounds}) for pruning"
        )


def _check_broker(path: Path, config: CoordinatorConfig) -> None:
    if config.users_file is not None and config.broker.ca_file is not None:
        raise ConfigError(
            f"{path}: users_file starts the embedded broker, which has no TLS, and broker.ca_file asks for it: leave "
            "one of them out; an enrolled fleet has Mosquitto (docs/gateway.md)"
        )


def encode(config: CoordinatorConfig) -> bytes:
    """`config` as JSON with absolute paths, for whoever opens the run folder later, from wherever."""
    absolute = msgspec.structs.replace(
        config,
        pack=config.pack.resolve(),
        run_dir=config.run_dir.resolve(),
        users_file=None if config.users_file is None else config.users_file.resolve(),
        revoked_file=None if config.revoked_file is None else config.revoked_file.resolve(),
        broker=config.broker.resolve(Path.cwd()),
    )
    return msgspec.json.encode(absolute, enc_hook=str)


def decode(data: bytes) -> CoordinatorConfig:
    """Inverse of `encode`.

    Raises:
        ConfigError: not a configuration of this version.
    """
    try:
        return msgspec.json.decode(data, type=CoordinatorConfig, dec_hook=lambda kind, value: kind(value))
    except MALFORMED as error:
        raise ConfigError(f"the run's stored configuration is of another rankfleet version: {error}") from error


def load_users(path: Path) -> dict[str, str]:
    """Passwords by user name, from lines `name:password`; empty lines and lines with `#` in front are skipped.

    Raises:
        ConfigError: the file cannot be read, a line has another form (named by its number, never its content), a name
            comes twice, or there is no password for the coordinator itself.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(read_text(path, "users_file").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not (name and colon and password):
            raise ConfigError(f"{path}, line {number}: expected name:password")
        if name in users:
            raise ConfigError(f"{path}, line {number}: {name} has a password already")
        users[name] = password
    if topics.COORDINATOR not in users:
        raise ConfigError(f"{path}: expected a line {topics.COORDINATOR}:password, for the coordinator itself")
    return users
