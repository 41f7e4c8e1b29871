"""Keeps books of a soak beside the coordinator: nothing is lost, nothing counts twice, nothing waits for ever.

It knows what devices made, what the coordinator acknowledged (from the messages themselves) and what it has on disk
(from its database, read only). What does not agree is a violation, in words.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import msgspec

from coordinator import events
from coordinator.store import Store
from edge_agent.wire import frame
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.ranks import Layout

from . import means
from .settings import DEADLINE_S, GRACE_S, Settings
from .training import Trained

MOST_VIOLATIONS = 20
"""What goes wrong once goes wrong often: so many are told."""
STALLED_S = 10 * (DEADLINE_S + GRACE_S)
_SLACK_S = 1.0
"""A coordinator looks at its clock only so often."""

Key = tuple[int, str]
"""Round and device."""


class _Made(NamedTuple):
    examples: int
    body: bytes
    usable: bool


class Ledger:
    """The books of one soak; `path` is the coordinator's database."""

    def __init__(self, settings: Settings, layout: Layout, path: Path) -> None:
        self.violations: list[str] = []
        self.updates = 0
        """How many are in closed rounds."""
        self.acknowledgements = 0
        self.digests = 0
        """How often a device's state was compared with the coordinator's."""
        self.averages = 0
        """How often a round's average was computed a second time."""
        self.largest_error = 0.0
        self.closed = 0
        self.examples = 0
        self.contributors: set[str] = set()
        self._settings = settings
        self._layout = layout
        self._path = path
        self._decoder = frame.Decoder(m.FromCoordinator)
        self._made: dict[Key, dict[bytes, _Made]] = defaultdict(dict)
        self._acknowledged: dict[Key, bytes] = {}
        self._counted: dict[Key, bytes] = {}
        self._counted_as: dict[bytes, Key] = {}
        self._records: dict[int, bytes] = {}
        self._before = means.seed(layout, settings.seed)
        self._since_s = self._closed_s = 0.0
        self._stored: dict[str, float] = {}

    def violation(self, text: str) -> None:
        """Something that must not be."""
        if len(self.violations) < MOST_VIOLATIONS:
            self.violations.append(text)

    # What devices tell

    def made(self, device: str, trained: Trained) -> None:
        """A device made an update; whether it is the one that counts, the round will tell."""
        body = trained.body if trained.usable else b""
        made = _Made(trained.report.examples, body, trained.usable)
        self._made[trained.round, device][trained.sha256] = made

    def caught_up(self, device: str, version: int, found: bytes, expected: bytes) -> None:
        """A device followed the objects of a plan: its state must be the coordinator's."""
        self.digests += 1
        if found != expected:
            self.violation(f"{device} came to another state at version {version} than the coordinator has")

    # What the coordinator tells

    def published(self, device: str, payload: bytes) -> None:
        """The coordinator sent something to a device."""
        message = self._decoder.decode(payload).message
        if isinstance(message, m.Acknowledged):
            self._acknowledge((message.round, device), message.sha256)

    def _acknowledge(self, key: Key, sha256: bytes) -> None:
        self.acknowledgements += 1
        number, device = key
        if number > self.closed:
            if self._acknowledged.setdefault(key, sha256) != sha256:
                self.violation(f"round {number}: two different updates of {device} were acknowledged")
        elif self._counted.get(key) != sha256:
            self.violation(f"round {number}: an update of {device} was acknowledged, and is not in the closed round")

    def started(self, now_s: float) -> None:
        """A coordinator starts: the deadline of the open round begins anew."""
        self._since_s = now_s

    def told(self, event: events.Watched, now_s: float) -> None:
        """The coordinator told whoever watches."""
        if isinstance(event, events.Opened):
            self._since_s, self._stored = now_s, {}
        elif isinstance(event, events.Received):
            self._stored.setdefault(event.device, now_s)
        elif isinstance(event, events.Closed):
            self._check_time(event.record, now_s)
            self.look()

    def _check_time(self, record: events.RoundRecord, now_s: float) -> None:
        """A round that has its quorum closes at its deadline at the latest, or with the quorum where that is later."""
        self._closed_s = now_s
        quorum = max(1, self._settings.devices // 2)
        if len(self._stored) < quorum:
            return  # it was killed before it told of some
        limit_s = max(self._since_s + DEADLINE_S, sorted(self._stored.values())[quorum - 1]) + GRACE_S + _SLACK_S
        if now_s > limit_s:
            self.violation(f"round {record.round} closed {now_s - limit_s:.0f} s later than it must")

    def stalled(self, now_s: float) -> bool:
        """Whether no round has closed for far too long."""
        return now_s - self._closed_s > STALLED_S

    # What is on disk

    def look(self) -> None:
        """Reads the rounds that closed since the last look."""
        store = Store(self._path, read_only=True)
        try:
            for number, record in store.rounds(after=self.closed):
                self._close(store, number, record)
        finally:
            store.close()

    def _close(self, store: Store, number: int, body: bytes) -> None:
        if number != self.closed + 1:
            self.violation(f"round {number} follows on round {self.closed}")
        record = msgspec.json.decode(body, type=events.RoundRecord)
        counted = {device: sha256 for device, (sha256, _) in store.contributors(number).items()}
        self.closed, self._records[number] = number, body
        self._check_counted(record, counted)
        self._check_acknowledged(number, counted)
        self._check_model(store, record, counted)
        for device, sha256 in counted.items():
            self._counted[number, device] = sha256
        self.updates += len(counted)
        self.examples += record.examples
        self.contributors.update(counted)
        self._made = defaultdict(dict, {key: made for key, made in self._made.items() if key[0] > number})

    def _check_counted(self, record: events.RoundRecord, counted: dict[str, bytes]) -> None:
        number, examples = record.round, 0
        if tuple(sorted(counted)) != record.contributors:
            self.violation(f"round {number}: its record names others than those whose updates are on disk")
        for device, sha256 in counted.items():
            made = self._made[number, device].get(sha256)
            if made is None:
                self.violation(f"round {number}: an update of {device} counts that it never made")
            elif not made.usable:
                self.violation(f"round {number}: an update of {device} counts that cannot be used")
            else:
                examples += made.examples
            if self._counted_as.setdefault(sha256, (number, device)) != (number, device):
                self.violation(f"round {number}: an update of {device} counts that counted before")
        if record.examples != examples:
            self.violation(f"round {number}: its record has {record.examples} examples, its updates {examples}")

    def _check_acknowledged(self, number: int, counted: dict[str, bytes]) -> None:
        for (one, device), sha256 in self._acknowledged.items():
            if one == number and counted.get(device) != sha256:
                self.violation(f"round {number}: the acknowledged update of {device} is not in it")
        self._acknowledged = {key: sha256 for key, sha256 in self._acknowledged.items() if key[0] > number}

    def _check_model(self, store: Store, record: events.RoundRecord, counted: dict[str, bytes]) -> None:
        number = record.round
        checkpoint = next((one for one in store.checkpoints() if one.version == number), None)
        if checkpoint is None:
            self.violation(f"round {number}: there is no checkpoint of what it led to")
            return
        before, self._before = self._before, means.sent(checkpoint, self._layout)
        living = int(self._before.state.mask.sum())
        if living != record.ranks_alive:
            self.violation(f"round {number}: its record has {record.ranks_alive} ranks, its model {living}")
        if number % self._settings.check_every == 0 and record.returned_to is None:
            made = (self._made[number, device].get(sha256) for device, sha256 in counted.items())
            error = means.largest_error(before, self._before, (one.body for one in made if one and one.usable))
            self.averages += 1
            self.largest_error = max(self.largest_error, error)
            if error > means.TOLERANCE or math.isnan(error):
                self.violation(f"round {number}: its average is {error:.2g} from that of its updates")

    # The end

    def finish(self, finished: dict[str, bytes]) -> None:
        """The run is over; `finished` are the digests of the final models that devices keep."""
        self.look()
        store = Store(self._path, read_only=True)
        try:
            self._check_all(store)
        finally:
            store.close()
        final = states.digest(self._before.state)
        for device, digest in finished.items():
            self.caught_up(device, self.closed, digest, final)
        if self.closed != self._settings.rounds:
            self.violation(f"{self.closed} rounds closed of {self._settings.rounds}")
        idle = self._settings.devices - len(self.contributors)
        if idle:
            self.violation(f"{idle} devices are in no round at all")

    def _check_all(self, store: Store) -> None:
        """What closed is on disk as it was when it closed."""
        if dict(store.rounds()) != self._records:
            self.violation("records of closed rounds are not what they were when these closed")
        found = {
            (number, device): sha256
            for number in self._records
            for device, (sha256, _) in store.contributors(number).items()
        }
        if found != self._counted:
            self.violation("the updates of closed rounds are not what they were when these closed")
        if self._acknowledged:
            self.violation(f"{len(self._acknowledged)} updates were acknowledged of rounds that never closed")
