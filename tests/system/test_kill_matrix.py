"""The kill matrix: whoever dies, at whatever named moment of a round, the run ends as if nobody had, bit for bit.

Real processes over Mosquitto with MQTT 5. Who dies is started again, as a service manager does; a trainer by its agent.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from coordinator import events
from edge_agent import capability
from edge_agent.store import Model
from edge_agent.wire import state as states
from edge_agent.wire.crash_points import Crash, Point, environment
from tests.brokers import Mosquitto, mosquitto
from tests.runs import CAPABILITY
from tests.system.fleet import (
    STOP_S,
    USERS,
    Fleet,
    Process,
    Settings,
    assert_ends_well,
    assert_stops,
    fleet,
    of_kind,
    told,
    wait_until,
)

pytestmark = pytest.mark.slow

DEVICES = ("pi-1", "pi-2")
VICTIM = "pi-2"
ROUNDS = 2
RECOVERY_S = 10.0
LOADED = 12
"""A machine that does other things too may take so many times as long."""
BROKER = {"protocol": "5", "max_packet_bytes": 4096, "keepalive_s": 5}
"""Packets so small that even a tiny model's update has several chunks."""

OCCASIONS = {
    Point.AGENT_PACK_CHUNK: 12,
    Point.AGENT_PLAN_HEARD: 2,
    Point.AGENT_UPDATE_MADE: 2,
    Point.AGENT_ACKNOWLEDGEMENT_HEARD: 2,
    Point.TRAINER_STARTED: 2,
    Point.TRAINER_CAUGHT_UP: 2,
    Point.TRAINER_STEPPED: 3,
    Point.TRAINER_CHECKPOINTED: 2,
    Point.TRAINER_COMMITTED: 2,
    Point.COORDINATOR_READY_HEARD: 2,
    Point.COORDINATOR_PLAN_SENT: 3,
    Point.COORDINATOR_UPDATE_STORED: 2,
    Point.COORDINATOR_ACKNOWLEDGED: 3,
    Point.COORDINATOR_AGGREGATED: 2,
    Point.COORDINATOR_COMMITTING: 2,
}
"""Where it is not the first time: in a later round, for the second device, or half-way through."""
RESUMES = "training goes on after step"
MIDWAY = (
    Point.TRAINER_STEPPED,
    Point.TRAINER_CHECKPOINTED,
    Point.TRAINER_TRAINED,
    Point.TRAINER_UPDATE_ENCODED,
    Point.TRAINER_COMMITTING,
)
"""Where a checkpoint of the round is on disk."""
MOMENTS = {
    "while the pack is fetched": "joining -> fetching",
    "while a device measures itself": "fetching -> measuring",
    "while a device trains": "catching_up -> training",
    "when an update was offered": "training -> offering",
    "while the final model is kept": "catching_up -> finishing",
}
"""When the broker dies: what an agent logs then."""


class End(NamedTuple):
    """What a run leaves: the coordinator's state, its records without their durations, every device's model."""

    state_sha256: bytes
    records: tuple[events.RoundRecord, ...]
    models: dict[str, Model]


@contextmanager
def on_mosquitto(folder: Path) -> Iterator[tuple[Mosquitto, Fleet]]:
    recorded = folder / "capabilities.json"
    recorded.write_bytes(capability.dump(dict.fromkeys(DEVICES, CAPABILITY)))
    with mosquitto(folder, users=USERS) as broker:
        settings = Settings(
            rounds=ROUNDS,
            devices=DEVICES,
            port=broker.port,
            capabilities=recorded,
            round={"grace_s": 60.0},
            head={"start": "seed"},
            training={"quantisation": "int8"},
            local_training={"checkpoint_s": 1e-6},
            broker=BROKER,
        )
        with fleet(folder / "fleet", settings) as one:
            yield broker, one


def end_of(one: Fleet) -> End:
    records = tuple(msgspec.structs.replace(record, wall_s=0.0) for record in one.records())
    return End(states.digest(one.final_state()), records, {name: one.agent_model(name) for name in DEVICES})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> End:
    with on_mosquitto(tmp_path_factory.mktemp("undisturbed")) as (_, one):
        one.run()
        end = end_of(one)
    assert [record.contributors for record in end.records] == [DEVICES] * ROUNDS
    return end


@pytest.mark.parametrize("point", [point for point in Point if point.name.startswith("TRAINER")], ids=lambda p: p.name)
def test_a_trainer_that_is_killed_costs_nothing(point: Point, undisturbed: End, tmp_path: Path) -> None:
    crash = crash_at(point, tmp_path)
    with on_mosquitto(tmp_path) as (_, one):
        coordinator = one.start_coordinator()
        agents = {name: one.start_agent(name, environment(crash) if name == VICTIM else {}) for name in DEVICES}
        assert_ends_well(coordinator, agents)
        assert_was_reached(crash)
        assert "killed by signal 9" in agents[VICTIM].stderr
        assert (RESUMES in agents[VICTIM].stderr) == (point in MIDWAY)
        assert not of_kind(told(coordinator), events.Refused)
        assert end_of(one) == undisturbed


@pytest.mark.parametrize("point", [point for point in Point if point.name.startswith("AGENT")], ids=lambda p: p.name)
def test_an_agent_that_is_killed_comes_back_to_its_round(
    point: Point, undisturbed: End, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    crash = crash_at(point, tmp_path)
    with on_mosquitto(tmp_path) as (_, one):
        coordinator = one.start_coordinator()
        agents = {name: one.start_agent(name, environment(crash) if name == VICTIM else {}) for name in DEVICES}
        assert agents[VICTIM].wait() == -signal.SIGKILL, agents[VICTIM].stderr
        assert_was_reached(crash)
        joined = len(joins(coordinator, VICTIM))
        agents[VICTIM] = one.start_agent(VICTIM, environment(crash))
        record_testsuite_property(
            f"recovery_s {point.name}", waited_s(coordinator, lambda: len(joins(coordinator, VICTIM)) > joined)
        )
        if point is Point.AGENT_FINISHED_SENT:
            assert_ends_without(coordinator, agents)
        else:
            assert_ends_well(coordinator, agents)
        assert end_of(one) == undisturbed


@pytest.mark.parametrize("point", [p for p in Point if p.name.startswith("COORDINATOR")], ids=lambda p: p.name)
def test_a_coordinator_that_is_killed_goes_on_with_its_round(
    point: Point, undisturbed: End, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    crash = crash_at(point, tmp_path)
    with on_mosquitto(tmp_path) as (_, one):
        killed, agents = one.start_coordinator(environment(crash)), one.start_agents()
        assert killed.wait() == -signal.SIGKILL, killed.stderr
        assert_was_reached(crash)
        again = one.start_coordinator(environment(crash))
        record_testsuite_property(
            f"recovery_s {point.name}", waited_s(again, lambda: all(joins(again, name) for name in DEVICES))
        )
        assert_ends_well(again, agents)
        assert end_of(one) == undisturbed


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_broker_that_is_killed_loses_nothing(
    moment: str, undisturbed: End, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    with on_mosquitto(tmp_path) as (broker, one):
        coordinator, agents = one.start_coordinator(), one.start_agents()
        agents[VICTIM].says(MOMENTS[moment])
        broker.kill()
        broker.start()
        everyone = [lambda agent=agent: agent.stderr.count("connected to the broker") > 1 for agent in agents.values()]
        record_testsuite_property(
            f"recovery_s {moment}",
            waited_s(
                coordinator,
                lambda: len(of_kind(told(coordinator), events.Listening)) > 1 and all(back() for back in everyone),
            ),
        )
        assert_ends_well(coordinator, agents)
        assert end_of(one) == undisturbed


def crash_at(point: Point, folder: Path) -> Crash:
    return Crash(point, OCCASIONS.get(point, 1), folder / "reached")


def assert_was_reached(crash: Crash) -> None:
    assert crash.marker.exists(), f"{crash.point.name} was never reached"
    assert crash.marker.stat().st_size >= crash.occasion, f"{crash.point.name} was not reached {crash.occasion} times"


def joins(coordinator: Process, device: str) -> list[events.Joined]:
    return [event for event in of_kind(told(coordinator), events.Joined) if event.device == device]


def waited_s(coordinator: Process, is_back: Callable[[], bool]) -> float:
    """How long it took; a coordinator that has nothing left to do may have ended before."""
    start_s = time.monotonic()
    wait_until(
        lambda: is_back() or not coordinator.running,
        LOADED * RECOVERY_S,
        lambda: f"nobody is back in the round; the coordinator told {coordinator.lines[-5:]}\n{coordinator.stderr}",
    )
    return round(time.monotonic() - start_s, 1)


def assert_ends_without(coordinator: Process, agents: dict[str, Process]) -> None:
    """The run may be over before the victim is back: it holds the final model then, and waits for another run."""
    victim = agents[VICTIM]
    assert_ends_well(coordinator, {name: agent for name, agent in agents.items() if agent is not victim})
    victim.says("connected to the broker")
    ended_by_s = time.monotonic() + STOP_S
    while victim.running and time.monotonic() < ended_by_s:
        time.sleep(0.1)
    if victim.running:
        assert_stops(victim, Process.terminate)
    else:
        assert_ends_well(victim, {})
