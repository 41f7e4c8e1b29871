"""The kill matrix: whoever dies, at whatever named moment of a round, the run ends as if nobody had, bit for bit.

Real processes over a real broker; `tests/system/kill_matrix.py` says which, and runs them all. Who dies is started
again, as a service manager does; a trainer by its agent.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
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
from tests.models import tiny_pack, wide_pack
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
    wait_event,
    wait_until,
)
from tests.system.kill_matrix import KB_128, RECOVERY, RECOVERY_S, SMALLEST, Variant, chosen

pytestmark = pytest.mark.slow

DEVICES = ("pi-1", "pi-2")
VICTIM = "pi-2"
ROUNDS = 2
VARIANT = chosen()
LARGEST_PACKET_BYTES = 2**20
"""Of what `broker.max_packet_bytes` takes."""
LOADED = 12
"""A machine that does other things too may take so many times as long."""
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


class Started(NamedTuple):
    """The processes of a fleet."""

    coordinator: Process
    agents: dict[str, Process]


@contextmanager
def on_a_broker(folder: Path, variant: Variant = VARIANT) -> Iterator[tuple[Mosquitto | None, Fleet]]:
    """The fleet of the matrix, and its broker if that is a process of its own."""
    recorded = folder / "capabilities.json"
    recorded.write_bytes(capability.dump(dict.fromkeys(DEVICES, CAPABILITY)))
    if variant.broker == "amqtt":
        with fleet(folder / "fleet", settings(variant, None, recorded)) as one:
            yield None, one
        return
    lines = (f"message_size_limit {variant.limit_bytes}", "log_type all")
    with (
        mosquitto(folder, users=USERS, max_packet_bytes=variant.limit_bytes, lines=lines) as broker,
        fleet(folder / "fleet", settings(variant, broker.port, recorded)) as one,
    ):
        yield broker, one


def settings(variant: Variant, port: int | None, recorded: Path) -> Settings:
    """Pack and updates have more bytes than a packet may have. What MQTT 5 announces is for the link to find out."""
    announced = variant.mqtt == "5"
    wide = variant.limit_bytes > SMALLEST.limit_bytes
    return Settings(
        rounds=ROUNDS,
        devices=DEVICES,
        port=port,
        capabilities=recorded,
        pack=wide_pack() if wide else tiny_pack(),
        ranks={"initial": 12, "target": 8.0} if wide else {},
        round={"grace_s": 60.0},
        head={"start": "seed"},
        training={"quantisation": "int8"},
        local_training={"checkpoint_s": 1e-6},
        broker={
            "protocol": variant.mqtt,
            "max_packet_bytes": LARGEST_PACKET_BYTES if announced else min(variant.limit_bytes, LARGEST_PACKET_BYTES),
            "keepalive_s": 5,
        },
    )


def end_of(one: Fleet) -> End:
    records = tuple(msgspec.structs.replace(record, wall_s=0.0) for record in one.records())
    return End(states.digest(one.final_state()), records, {name: one.agent_model(name) for name in DEVICES})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> End:
    with on_a_broker(tmp_path_factory.mktemp("undisturbed")) as (broker, one):
        one.run()
        end = end_of(one)
    assert [record.contributors for record in end.records] == [DEVICES] * ROUNDS
    assert end.records[0].updates_bytes > len(DEVICES) * min(VARIANT.limit_bytes, KB_128)
    if broker is not None:
        largest_bytes = max(broker.payloads_bytes())
        assert min(VARIANT.limit_bytes, 2 * KB_128) // 2 < largest_bytes < VARIANT.limit_bytes, "the limit matters"
    return end


def start(one: Fleet, of_coordinator: Mapping[str, str], of_victim: Mapping[str, str]) -> Started:
    """Agents come when there is somebody to hear them."""
    coordinator = one.start_coordinator(of_coordinator)
    wait_event(coordinator, events.Listening)
    agents = {name: one.start_agent(name, of_victim if name == VICTIM else {}) for name in DEVICES}
    return Started(coordinator, agents)


@pytest.mark.parametrize("point", [point for point in Point if point.name.startswith("TRAINER")], ids=lambda p: p.name)
def test_a_trainer_that_is_killed_costs_nothing(
    point: Point, undisturbed: End, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    crash = crash_at(point, tmp_path)
    with on_a_broker(tmp_path) as (_, one):
        coordinator, agents = start(one, {}, environment(crash))
        agents[VICTIM].says("killed by signal 9")
        phases = agents[VICTIM].stderr.count(" -> ")
        record_property(RECOVERY, waited_s(coordinator, lambda: agents[VICTIM].stderr.count(" -> ") > phases))
        assert_ends_well(coordinator, agents)
        assert_was_reached(crash)
        assert "killed by signal 9" in agents[VICTIM].stderr
        assert (RESUMES in agents[VICTIM].stderr) == (point in MIDWAY)
        assert not of_kind(told(coordinator), events.Refused)
        assert end_of(one) == undisturbed


@pytest.mark.parametrize("point", [point for point in Point if point.name.startswith("AGENT")], ids=lambda p: p.name)
def test_an_agent_that_is_killed_comes_back_to_its_round(
    point: Point, undisturbed: End, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    crash = crash_at(point, tmp_path)
    with on_a_broker(tmp_path) as (_, one):
        coordinator, agents = start(one, {}, environment(crash))
        assert agents[VICTIM].wait() == -signal.SIGKILL, agents[VICTIM].stderr
        assert_was_reached(crash)
        joined = len(joins(coordinator, VICTIM))
        agents[VICTIM] = one.start_agent(VICTIM, environment(crash))
        record_property(RECOVERY, waited_s(coordinator, lambda: len(joins(coordinator, VICTIM)) > joined))
        if point is Point.AGENT_FINISHED_SENT:
            assert_ends_without(coordinator, agents)
        else:
            assert_ends_well(coordinator, agents)
        assert end_of(one) == undisturbed


@pytest.mark.parametrize("point", [p for p in Point if p.name.startswith("COORDINATOR")], ids=lambda p: p.name)
def test_a_coordinator_that_is_killed_goes_on_with_its_round(
    point: Point, undisturbed: End, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    crash = crash_at(point, tmp_path)
    with on_a_broker(tmp_path) as (_, one):
        killed, agents = start(one, environment(crash), {})
        assert killed.wait() == -signal.SIGKILL, killed.stderr
        assert_was_reached(crash)
        again = one.start_coordinator(environment(crash))
        record_property(RECOVERY, waited_s(again, lambda: is_back(again, point)))
        assert_ends_well(again, agents)
        assert end_of(one) == undisturbed


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_broker_that_is_killed_loses_nothing(
    moment: str, undisturbed: End, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with on_a_broker(tmp_path) as (broker, one):
        if broker is None:
            pytest.skip("the embedded broker lives in the coordinator's process: it dies with it, never alone")
        coordinator, agents = start(one, {}, {})
        agents[VICTIM].says(MOMENTS[moment])
        broker.kill()
        before = connections(coordinator, agents)
        broker.start()
        record_property(
            RECOVERY,
            waited_s(
                coordinator,
                lambda: all(n > m for n, m in zip(connections(coordinator, agents), before, strict=True)),
            ),
        )
        assert_ends_well(coordinator, agents)
        assert end_of(one) == undisturbed


def connections(coordinator: Process, agents: Mapping[str, Process]) -> list[int]:
    """How often each process was connected; a device may not have been when the broker died."""
    of_agents = [agent.stderr.count("connected to the broker") for agent in agents.values()]
    return [len(of_kind(told(coordinator), events.Listening)), *of_agents]


def is_back(coordinator: Process, point: Point) -> bool:
    """Whether the devices are with it again; of those that were dismissed nobody may be there any more."""
    if point is Point.COORDINATOR_DISMISSED:
        return bool(of_kind(told(coordinator), events.Listening))
    return all(joins(coordinator, name) for name in DEVICES)


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
    heard = "connected to the broker" if VARIANT.broker == "mosquitto" else "no connection"
    wait_until(lambda: heard in victim.stderr or not victim.running, STOP_S, lambda: victim.stderr)
    ended_by_s = time.monotonic() + STOP_S
    while victim.running and time.monotonic() < ended_by_s:
        time.sleep(0.1)
    if victim.running:
        assert_stops(victim, Process.terminate)
    else:
        assert_ends_well(victim, {})
