"""A run folder in which bytes have flipped: what is made again of it, and what is undone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from coordinator import fleet_model
from coordinator.config import CoordinatorConfig
from coordinator.events import Mended, Opened
from coordinator.fleet_model import FleetModel, close_round, from_checkpoint, to_checkpoint
from coordinator.recovery import mend
from coordinator.run import DATABASE
from coordinator.store import Checkpoint, Contribution, Store
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.memory_link import MemoryBroker
from tests.coordinator.devices import NAMES, Devices, Start, last_rounds
from tests.coordinator.small import LAYOUT, SEED, an_update, rules, same
from tests.disks import GARBAGE, damage
from tests.scripted import Device, all_of, last_state, make_config
from tests.wire.examples import REPORT

ROUNDS = 5
UPDATE = Contribution("pi-1", hashlib.sha256(b"update").digest(), msgspec.msgpack.encode(REPORT), b"update", 1)


def flip(path: Path, blob: bytes) -> None:
    """Alters a byte of `blob` in the file of a database that nobody uses."""
    data = bytearray(path.read_bytes())
    place = data.find(blob[:64])  # SQLite cuts what is longer than a page into pieces
    assert place >= 0, "the blob is in the file"
    data[place + min(len(blob), 64) // 2] ^= 0x10
    path.write_bytes(data)


class Run:
    """A run folder after `ROUNDS` rounds, whose next one is open; `models` are what it held after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path)
        self.models = [fleet_model.start(LAYOUT, SEED)]
        self.run_id = self.store.run_id()
        for number in range(1, ROUNDS + 1):
            before = self.models[-1]
            closing = close_round(before, [an_update(10 * number + i, number - 1) for i in range(2)], 1.5, rules(5))
            self.store.keep_contribution(number, UPDATE)
            self.store.close_round(number, to_checkpoint(closing.model), closing.delta, b"record %d" % number)
            self.models.append(closing.model)
        self.store.keep_contribution(ROUNDS + 1, UPDATE)

    def flip(self, blob: bytes) -> None:
        self.store.close()
        flip(self.path, blob)
        self.store = Store(self.path)

    def delta(self, version: int) -> bytes:
        ((_, sha256, _), *_) = self.store.delta_sizes(version - 1)
        body = self.store.delta_body(sha256)
        assert body is not None
        return body

    def mended(self) -> tuple[Mended | None, FleetModel]:
        found = mend(self.store, LAYOUT, SEED)
        assert mend(self.store, LAYOUT, SEED) is None, "what is mended is whole"
        checkpoint = self.store.checkpoint()
        assert checkpoint is not None
        return found, from_checkpoint(checkpoint, LAYOUT)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "coordinator.db")
    yield run
    run.store.close()


def test_a_whole_run_is_left_alone(run: Run) -> None:
    before = run.store.checkpoints()
    assert mend(run.store, LAYOUT, SEED) is None
    assert run.store.checkpoints() == before
    assert run.store.run_id() == run.run_id


def test_a_run_without_a_round_has_nothing_to_mend(tmp_path: Path) -> None:
    assert mend(Store(tmp_path / "new.db"), LAYOUT, SEED) is None


def test_a_damaged_state_is_made_again_to_the_bit(run: Run) -> None:
    run.flip(run.store.checkpoints()[0].state)
    found, model = run.mended()
    assert found is not None and (found.version, found.newest) == (ROUNDS, ROUNDS)
    assert "version 5 is damaged" in found.reason
    assert same(model, run.models[-1])
    assert_round_goes_on(run)


def test_a_damaged_residual_is_forgotten_and_the_state_is_not(run: Run) -> None:
    run.flip(run.store.checkpoints()[0].residual)
    found, model = run.mended()
    assert found is not None and found.version == ROUNDS
    assert states.digest(model.state) == states.digest(run.models[-1].state)
    assert (model.importance == run.models[-1].importance).all()
    assert not any(table.any() for table in model.residual.values())
    assert_round_goes_on(run)


def test_damaged_scores_are_those_of_the_round_before(run: Run) -> None:
    run.flip(run.store.checkpoints()[0].scores)
    _, model = run.mended()
    assert states.digest(model.state) == states.digest(run.models[-1].state)
    assert (model.importance == run.models[-2].importance * model.state.mask).all()
    assert_round_goes_on(run)


@pytest.mark.parametrize("damaged", [2, 3])
def test_several_damaged_checkpoints_are_made_again_from_the_last_whole_one_or_from_the_seed(
    run: Run, damaged: int
) -> None:
    for checkpoint in run.store.checkpoints()[:damaged]:
        run.flip(checkpoint.state)
    found, model = run.mended()
    assert found is not None and found.reason.count("is damaged") == damaged
    assert same(model, run.models[-1])
    assert_round_goes_on(run)


@pytest.mark.parametrize(
    ("damage", "reached"),
    [
        (lambda run: [run.store.checkpoints()[0].state, run.delta(5)], 4),
        (lambda run: [*(one.state for one in run.store.checkpoints()[:2]), run.delta(4)], 3),
        (lambda run: [*(one.state for one in run.store.checkpoints()), run.delta(3)], 2),
        (lambda run: [*(one.state for one in run.store.checkpoints()), run.delta(1)], 0),
    ],
)
def test_where_a_delta_is_damaged_too_the_rounds_behind_it_are_undone(
    run: Run, damage: Callable[[Run], list[bytes]], reached: int
) -> None:
    for blob in damage(run):
        run.flip(blob)
    found, model = run.mended()
    assert found is not None and (found.version, found.newest) == (reached, ROUNDS)
    assert states.digest(model.state) == states.digest(run.models[reached].state)
    assert [number for number, _ in run.store.rounds()] == list(range(1, reached + 1))
    assert not any(run.store.contributors(number) for number in range(reached + 1, ROUNDS + 2))
    assert run.store.run_id() != run.run_id, "devices that hold an undone version start anew"


def test_the_last_whole_checkpoint_is_taken_as_it_is(run: Run) -> None:
    for blob in (run.store.checkpoints()[0].state, run.delta(5)):
        run.flip(blob)
    _, model = run.mended()
    assert same(model, run.models[4])


def test_a_damaged_delta_alone_costs_nothing_but_itself(run: Run) -> None:
    run.flip(run.delta(3))
    found, model = run.mended()
    assert found == Mended(ROUNDS, ROUNDS, "the delta to version 3 is damaged")
    assert same(model, run.models[-1])
    assert [version for version, _, _ in run.store.delta_sizes(0)] == [1, 2, 4, 5]
    assert_round_goes_on(run)


def test_a_delta_that_is_of_another_version_is_not_applied(run: Run) -> None:
    """Its bytes are whole, its row is not."""
    damage(run.path, "UPDATE delta SET version = version + 100 WHERE version = 5")
    damage(run.path, "UPDATE delta SET version = 5 WHERE version = 2")
    damage(run.path, "UPDATE checkpoint SET state = ? WHERE version = 5", GARBAGE)
    found, model = run.mended()
    assert found is not None and (found.version, found.newest) == (4, 5)
    assert same(model, run.models[4])


def test_blobs_whose_type_has_changed_are_what_they_were(run: Run) -> None:
    before = run.store.checkpoints(), run.store.delta_sizes(0)
    damage(run.path, "UPDATE checkpoint SET state = CAST(state AS TEXT), scores = CAST(scores AS TEXT)")
    damage(run.path, "UPDATE contribution SET report = CAST(report AS TEXT)")
    assert mend(run.store, LAYOUT, SEED) is None
    assert (run.store.checkpoints(), run.store.delta_sizes(0)) == before


def assert_round_goes_on(run: Run) -> None:
    assert run.store.contribution_body(ROUNDS + 1, "pi-1") == b"update"
    assert len(run.store.rounds()) == ROUNDS
    assert run.store.run_id() == run.run_id


# A coordinator that starts in such a folder


def test_a_damaged_checkpoint_does_not_change_how_the_run_ends(
    broker: MemoryBroker, start: Start, devices: Devices, config: CoordinatorConfig, tmp_path: Path
) -> None:
    checkpoint, _ = damaged_in_its_second_round(start, devices, config)
    flip(config.run_dir / DATABASE, checkpoint.state)
    gateway = start()
    (mended,) = gateway.tells(Mended)
    assert (mended.version, mended.newest) == (1, 1)
    for device in devices.values():
        device.hears(m.Welcome)
        device.say(device.ready())
    last_rounds(devices)
    assert gateway.ends() == ()
    assert_ends_like_an_undisturbed_run(broker, start, config, tmp_path)


def test_devices_that_hold_an_undone_round_start_anew_and_the_run_ends_the_same(
    broker: MemoryBroker, start: Start, devices: Devices, config: CoordinatorConfig, tmp_path: Path
) -> None:
    checkpoint, delta = damaged_in_its_second_round(start, devices, config)
    for blob in (checkpoint.state, delta):
        flip(config.run_dir / DATABASE, blob)
    former = [device.heard[0].run for device in devices.values() if isinstance(device.heard[0], m.Welcome)]
    gateway = start()
    (mended,) = gateway.tells(Mended)
    assert (mended.version, mended.newest) == (0, 1)
    for device in devices.values():
        assert device.hears(m.Welcome).run not in former
        device.version = 0
        device.say(device.ready())
    last_rounds(devices, 2)
    assert gateway.ends() == ()
    assert [event.round for event in gateway.told(Opened)] == [1, 2]
    assert_ends_like_an_undisturbed_run(broker, start, config, tmp_path)


def damaged_in_its_second_round(start: Start, devices: Devices, config: CoordinatorConfig) -> tuple[Checkpoint, bytes]:
    """Ends a coordinator in its second round; its checkpoint, and the delta that led there."""
    gateway = start()
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    gateway.tells(Opened, 2)
    gateway.crash()
    store = Store(config.run_dir / DATABASE)
    checkpoint, ((_, sha256, _),) = store.checkpoint(), store.delta_sizes(0)
    delta = store.delta_body(sha256)
    store.close()
    assert checkpoint is not None and delta is not None
    return checkpoint, delta


def assert_ends_like_an_undisturbed_run(
    broker: MemoryBroker, start: Start, config: CoordinatorConfig, tmp_path: Path
) -> None:
    undisturbed = make_config(tmp_path / "undisturbed")
    start(undisturbed)
    others = {name: Device(broker, name, boot=9) for name in NAMES}
    all_of(others, Device.join)
    last_rounds(others, 2)
    assert states.digest(last_state(config)) == states.digest(last_state(undisturbed))
