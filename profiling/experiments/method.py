"""What a federated method is to the training loop, and the part that all methods share.

A method decides which ranks a client trains, which of their parts learn, and how updates become the next model. The
loop does the rest, alike for all: clients, batches, the optimizer, evaluation, and the counting of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from coordinator.fleet_model import FleetModel
from edge_agent.trainer import Adjust
from edge_agent.wire.codec import Update
from edge_agent.wire.ranks import Layout, Mask
from edge_agent.wire.state import ModelState

from .settings import Options, Profile

Float32 = npt.NDArray[np.float32]
Weights = Callable[[str], Float32]
"""The pretrained `W0 (d_out, d_in)` of a module by its name."""


class Parts(NamedTuple):
    """Which parts of a rank learn and travel."""

    a: bool = True
    e: bool = True
    b: bool = True


ALL = Parts()


class Client(NamedTuple):
    """One device of the fleet: its place, and what of its data the coordinator is told."""

    number: int
    examples: int
    rank_share: float

    @property
    def name(self) -> str:
        """What it is called on the wire, and its batches are drawn by."""
        return f"client-{self.number}"


@dataclass(frozen=True)
class Setup:
    """What a run gives to its method. `alive` are the ranks that there are at the start."""

    layout: Layout
    alive: Mask
    seed: int
    options: Options
    profile: Profile
    weights: Weights


@dataclass(frozen=True)
class Task:
    """One client's part in a round."""

    trained: Mask
    parts: Parts = ALL
    head: bool = True
    adjust: Adjust | None = None
    feedback: bool = True
    """Whether what quantisation loses is kept for the client's next round: not where a rank means another by then."""
    state: ModelState | None = None
    """What the client starts from, where that is not the server's state; its update is the change of this."""
    importance: str | None = None
    """The rule by which the client scores its ranks, where it is not that of the settings."""
    keep: int | None = None
    """How many ranks the client chooses: the best by their scores after training all of `trained`. It then trains
    these alone, from the same start, and sends them. None if it trains and sends all."""


@dataclass(frozen=True)
class Model:
    """What the server holds after a round.

    `fleet` is the product's own model; `base` what was added to the frozen weights, `(d_out, d_in)` by module, by
    methods that fold updates into them. `broadcast` are the encoded objects that bring a device from the model before
    to this one; where it is `whole` they bring any device here. `memory` is the method's own.
    """

    fleet: FleetModel
    broadcast: tuple[bytes, ...] = ()
    whole: bool = False
    base: Mapping[str, Float32] = field(default_factory=dict)
    memory: object = None


@dataclass(frozen=True)
class Upload:
    """What came from a client: its update, decoded, and the object that carried it."""

    client: Client
    update: Update
    loss: float
    body: bytes


def mean_loss(uploads: Sequence[Upload]) -> float:
    """The clients' mean training loss, weighted by examples."""
    examples = sum(upload.update.examples for upload in uploads)
    return sum(upload.loss * upload.update.examples for upload in uploads) / examples


class Method(Protocol):
    """A federated method. Pure: everything that it remembers is in the `Model`."""

    def start(self, setup: Setup) -> Model:
        """The model before the first round, made from the seed by server and devices alike."""

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """What `client` does in round `number`, from 1."""

    def parts(self, number: int) -> Parts:
        """Which parts travel up and down in round `number`."""

    def budget_ranks(self, setup: Setup, model: Model, number: int) -> int | None:
        """Ranks that are to live after round `number`, which the clients vote on; None for all that live."""

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The model after round `number`."""
