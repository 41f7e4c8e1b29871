"""What must be true of a run at any moment, checked from outside: what is on the wire, in the stores, and in numbers.

Nothing here trusts the coordinator's own account: updates are known from whoever trained them, stores are read through
connections of their own, which see what is committed and no more, and every mean is computed again.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from coordinator.config import CoordinatorConfig
from coordinator.events import RoundRecord
from coordinator.fleet_model import FleetModel, from_checkpoint, start
from coordinator.run import DATABASE
from coordinator.store import Store
from edge_agent.wire import codec, frame, topics
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.ranks import HEAD, Rows
from edge_agent.wire.rowset import chosen
from edge_agent.wire.state import ModelState
from tests.machines.training import Watched
from tests.scripted import tiny_layout

TOLERANCE = 1e-5
"""Updates change numbers by about 0.1; what fixed-point sums and float32 lose is a ten-thousandth of this."""


class Books:
    """The account of one run."""

    def __init__(self, config: CoordinatorConfig) -> None:
        self.training = Watched(self.held, self.strayed)
        self.acknowledged: dict[tuple[str, int], bytes] = {}
        self.refused: set[tuple[str, int]] = set()
        self.outboxes: dict[str, tuple[int, bytes] | None] = {}
        """Round and hash of the update that each device has to send."""
        self.offered: set[tuple[str, bytes]] = set()
        self.counted: set[bytes] = set()
        """The updates of closed rounds."""
        self.records: list[RoundRecord] = []
        self.replaced: set[str] = set()
        """Devices that may hold less than the coordinator thinks: their disk was replaced."""
        self._layout = tiny_layout()
        self._settings = config.round
        self._path = config.run_dir / DATABASE
        self._store: Store | None = None
        self._decoder = frame.Decoder(m.FromCoordinator)
        self._offers = frame.Decoder(m.FromAgent)
        self._model = start(self._layout, config.seed)
        self.digests = {0: states.digest(self._model.state)}

    @property
    def store(self) -> Store:
        """Sees what would be there if the coordinator died now."""
        if self._store is None:
            self._store = Store(self._path, read_only=True)
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    # On the wire

    def spy(self, topic: str, payload: bytes) -> None:
        """Looks at a message as it is sent."""
        if not topic.endswith(topics.DOWN):
            said = self._offers.decode(payload).message
            if isinstance(said, m.Offer):
                self.offered.add((topics.device_of(topic), said.update.sha256))
            return
        message = self._decoder.decode(payload).message
        if isinstance(message, m.Acknowledged):
            self._acknowledging(topics.device_of(topic), message)
        elif isinstance(message, m.Rejected) and message.round is not None:
            self._refusing(topics.device_of(topic), message.round)
        elif isinstance(message, m.Plan | m.Final):
            self.audit()
            assert isinstance(message, m.Final) or message.version == message.round - 1
            assert message.version == len(self.records), "what devices are to start from is not on disk"
            assert message.state_sha256 == self.digests[message.version], "devices are to hold another model"

    def _acknowledging(self, device: str, message: m.Acknowledged) -> None:
        counts_in = self._counts_in(device, message.round, message.sha256)
        assert counts_in is not None, "acknowledged, and not on disk"
        assert self.training.rounds[message.sha256] == message.round, "acknowledged for a round that it is not of"
        before = self.acknowledged.setdefault((device, message.round), message.sha256)
        assert before == message.sha256, "two updates of a device acknowledged for one round"
        if counts_in <= len(self.records):
            record = self.records[counts_in - 1]
            assert device in record.contributors, "acknowledged, and the round closed without it"

    def _counts_in(self, device: str, number: int, sha256: bytes) -> int | None:
        """The round that counts an update which was made for round `number`, as far as the disk knows."""
        for later in range(number, number + self._settings.late_rounds + 1):
            kept = self.store.contributors(later).get(device)
            if kept is not None and kept[0] == sha256:
                return later
        return None

    def _refusing(self, device: str, number: int) -> None:
        outbox = self.outboxes.get(device)
        if outbox is not None and outbox[0] == number:
            assert self._counts_in(device, *outbox) is None, "refused, and it counts"
        self.refused.add((device, number))

    # On the devices

    def outbox(self, device: str, found: tuple[int, bytes] | None) -> None:
        """What a device has offered leaves its disk when it was answered, and not before."""
        before = self.outboxes.get(device)
        self.outboxes[device] = found
        if before is None or found == before:
            return
        number, sha256 = before
        answered = self.acknowledged.get((device, number)) == sha256 or (device, number) in self.refused
        assert answered or (device, sha256) not in self.offered, (
            f"{device} dropped its update of round {number}, and has {found}"
        )

    def held(self, device: str, state: ModelState) -> None:
        """A device is about to train from `state`, or to keep it as the final one: rows and mask are the fleet's."""
        assert states.digest(state) == self.digests[state.version], f"{device} holds another model"

    def strayed(self, device: str, reason: str) -> None:
        """A device cannot bring its state to the plan's version."""
        assert device in self.replaced, f"{device}: {reason}"

    # In the coordinator's store

    def audit(self) -> None:
        """Looks at rounds that closed since the last time."""
        for number, body in self.store.rounds()[len(self.records) :]:
            record = msgspec.json.decode(body, type=RoundRecord)
            assert number == len(self.records) + 1 == record.round == record.version, "rounds close once, in order"
            self.records.append(record)
            self._audit_contributors(record)
            self._audit_model(record)

    def _audit_contributors(self, record: RoundRecord) -> None:
        kept = {device: sha256 for device, (sha256, _) in self.store.contributors(record.round).items()}
        due = {
            device: sha256
            for (device, number), sha256 in self.acknowledged.items()
            if self._counts_in(device, number, sha256) == record.round
        }
        count = len(record.contributors)
        assert len(set(record.contributors)) == count >= self._settings.quorum, "twice, or without a quorum"
        assert due.items() <= {device: kept.get(device) for device in record.contributors}.items(), "lost"
        assert set(kept) == set(record.contributors), "whatever is stored counts, nothing else does"
        assert self.counted.isdisjoint(kept.values()), "an update counts in two rounds"
        self.counted.update(kept.values())
        late = {device: record.round - self.training.rounds[sha256] for device, sha256 in kept.items()}
        assert all(0 <= rounds <= self._settings.late_rounds for rounds in late.values()), "of another round"
        assert record.late == {device: rounds for device, rounds in late.items() if rounds}
        assert record.examples == sum(self._weighed(sha256, record.round).examples for sha256 in kept.values())

    def _weighed(self, sha256: bytes, number: int) -> codec.Update:
        """An update as it is to count in round `number`."""
        update, late_rounds = self.training.made[sha256], number - self.training.rounds[sha256]
        share = (1 + late_rounds) ** -self._settings.late_exponent
        return replace(update, examples=max(1, round(share * update.examples)))

    def _audit_model(self, record: RoundRecord) -> None:
        """What was and what the broadcasts still owe, moved by the mean, is what is and what they owe now."""
        checkpoint = next(one for one in self.store.checkpoints() if one.version == record.version)
        before, after = self._model, from_checkpoint(checkpoint, self._layout)
        if record.loss is not None:
            kept = self.store.contributors(record.round)
            mean = _mean([self._weighed(sha256, record.round) for sha256, _ in kept.values()], before)
            for name, rows in _owed(after).items():
                alive = _alive(after, name)
                expected = (_owed(before)[name] + mean[name])[alive]
                assert np.allclose(rows[alive], expected, rtol=0, atol=TOLERANCE), f"another mean of {name}"
        assert not (after.state.mask & ~before.state.mask).any(), "what is pruned stays so"
        assert int(after.state.mask.sum()) == record.ranks_alive
        self._model = after
        self.digests[record.version] = states.digest(after.state)


def _owed(model: FleetModel) -> Rows:
    return {name: rows.astype(np.float64) + model.residual[name] for name, rows in model.state.rows.items()}


def _alive(model: FleetModel, name: str) -> np.ndarray:
    if name == HEAD:
        return np.ones(len(model.state.rows[HEAD]), np.bool_)
    index = [module.name for module in model.state.layout.modules].index(name)
    return model.state.mask[index]


def _mean(updates: list[codec.Update], model: FleetModel) -> Rows:
    """The mean change of every row over those who sent it, by examples, as one would write it down first."""
    layout = model.state.layout
    sums = {name: np.zeros(rows.shape) for name, rows in model.state.rows.items()}
    counts = {name: np.zeros((len(rows), 1)) for name, rows in model.state.rows.items()}
    for update in updates:
        changes = update.changes.rows()
        for name, places in chosen(layout, update.changes.ranks, update.changes.classes).items():
            sums[name][places] += update.examples * changes[name].astype(np.float64)
            counts[name][places] += update.examples
    return {name: sums[name] / np.maximum(counts[name], 1) for name in sums}
