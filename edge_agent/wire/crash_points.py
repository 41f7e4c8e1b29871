"""The named moments of a round at which a process can be made to die, for the tests that kill it there.

With the environment variable `RANKFLEET_CRASH_AT=NAME` (or `NAME#3`: the third time) the process ends itself with
SIGKILL when it reaches the point of that name. `RANKFLEET_CRASH_MARKER` is a file that grows by a byte whenever the
point is reached, in whatever process: so a process that is started again with the same environment goes on.
"""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import ConfigError

CRASH_AT = "RANKFLEET_CRASH_AT"
MARKER = "RANKFLEET_CRASH_MARKER"


@enum.unique
class Point(enum.Enum):
    """Every point: its name says whose it is, its value which step of a round.

    What is *heard* was received and nothing was done about it yet; what is *sent* was handed to the link.
    """

    AGENT_HELLO_SENT = "the agent said Hello"
    AGENT_WELCOME_HEARD = "the agent heard the fleet's terms"
    AGENT_TERMS_KEPT = "the fleet's terms are on the agent's disk, nothing of the pack is"
    AGENT_PACK_CHUNK = "a chunk of the pack is on the agent's disk"
    AGENT_PACK_COMPLETE = "the pack is on the agent's disk, and verified"
    AGENT_MEASURING = "the process that measures the device was started"
    AGENT_MEASURED = "the device's capability is on disk"
    AGENT_READY_SENT = "the agent said that it is ready"
    AGENT_PLAN_HEARD = "the agent heard its plan"
    AGENT_DELTA_CHUNK = "a chunk of a delta is on the agent's disk"
    AGENT_DELTAS_COMPLETE = "all that the plan needs is on the agent's disk"
    AGENT_TRAINING = "the trainer process was started"
    AGENT_UPDATE_MADE = "the trainer told that the update is in the outbox"
    AGENT_OFFER_SENT = "the agent offered its update"
    AGENT_CHUNK_SERVED = "the agent sent a chunk of its update"
    AGENT_ACKNOWLEDGEMENT_HEARD = "the update was acknowledged, and is in the outbox still"
    AGENT_SETTLED = "the acknowledged update has left the outbox"
    AGENT_FINAL_HEARD = "the agent heard of the final model"
    AGENT_FINAL_KEPT = "the final model is on the agent's disk, nobody was told"
    AGENT_FINISHED_SENT = "the agent said that it holds the final model"

    TRAINER_STARTED = "the trainer process read its job"
    TRAINER_CAUGHT_UP = "the trainer holds the state that the plan starts from"
    TRAINER_EVALUATED = "the trainer evaluated that state"
    TRAINER_STEPPED = "the trainer made an optimizer step"
    TRAINER_CHECKPOINTED = "a checkpoint of the round's training is on disk"
    TRAINER_TRAINED = "the trainer made the last step, the update is not made"
    TRAINER_UPDATE_ENCODED = "the update is made, nothing of it is on disk"
    TRAINER_COMMITTING = "state, residual and update are written, the transaction is not committed"
    TRAINER_COMMITTED = "state, residual and update are on disk, nobody was told"
    TRAINER_FINAL_KEPT = "the final state is on disk, nobody was told"

    COORDINATOR_HELLO_HEARD = "the coordinator heard a Hello"
    COORDINATOR_READY_HEARD = "the coordinator heard that a device is ready"
    COORDINATOR_PLAN_KEPT = "a device's plan is on the coordinator's disk, and was not sent"
    COORDINATOR_PLAN_SENT = "a device's plan was sent"
    COORDINATOR_OFFER_HEARD = "the coordinator heard an offer"
    COORDINATOR_CHUNK_TAKEN = "the coordinator holds a part of an update"
    COORDINATOR_UPDATE_CHECKED = "the coordinator holds a whole update, nothing of it is on disk"
    COORDINATOR_UPDATE_STORED = "an update is on the coordinator's disk, and was not acknowledged"
    COORDINATOR_ACKNOWLEDGED = "the coordinator acknowledged an update"
    COORDINATOR_CLOSING = "every update is on disk, nothing is aggregated"
    COORDINATOR_AGGREGATED = "the next model is made, nothing of it is on disk"
    COORDINATOR_COMMITTING = "model, delta and record are written, the transaction is not committed"
    COORDINATOR_CLOSED = "model, delta and record are on disk, nobody was told"
    COORDINATOR_FINAL_SENT = "the coordinator sent word of the final model"
    COORDINATOR_FINISHED_KEPT = "it is on disk that a device holds the final model"
    COORDINATOR_DISMISSED = "the coordinator dismissed the devices"


class Crash(NamedTuple):
    """Where this process is to die: the `occasion`-th time that `point` is reached, counted in the file `marker`."""

    point: Point
    occasion: int
    marker: Path

    def reached(self) -> None:
        """Counts one more time, and dies if it is the one."""
        with self.marker.open("ab") as file:
            file.write(b".")
            file.flush()
            times = file.tell()
        if times == self.occasion:
            os.kill(os.getpid(), signal.SIGKILL)


def environment(crash: Crash) -> dict[str, str]:
    """The variables that make a process die as `crash` says; inverse of `crash_in`."""
    return {CRASH_AT: f"{crash.point.name}#{crash.occasion}", MARKER: str(crash.marker)}


def crash_in(variables: Mapping[str, str]) -> Crash | None:
    """Where `variables` say to die, if they do.

    Raises:
        ConfigError: they name no point or no marker.
    """
    wanted = variables.get(CRASH_AT)
    if wanted is None:
        return None
    name, _, occasion = wanted.partition("#")
    if name not in Point.__members__ or MARKER not in variables or not (occasion or "1").isdecimal():
        raise ConfigError(
            f"{CRASH_AT} is NAME or NAME#TIMES, one of edge_agent/wire/crash_points.py, with a file in {MARKER}; "
            f"got {wanted!r}"
        )
    return Crash(Point[name], int(occasion or 1), Path(variables[MARKER]))


_CRASH = crash_in(os.environ)


def reach(point: Point | None) -> None:
    """Ends this process if it is to die at `point`; None is no point."""
    if _CRASH is not None and _CRASH.point is point:
        _CRASH.reached()
