"""Whole runs of real processes over links that are slow, cut, half open or lossy: nothing lost, the same model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordinator import events
from edge_agent.store import Store as AgentStore
from tests.brokers import mosquitto
from tests.network.namespaces import GATEWAY, Network, network
from tests.network.proxy import Faults, proxy
from tests.system.fleet import (
    DEVICES,
    ROUNDS,
    USERS,
    Fleet,
    Settings,
    assert_ends_well,
    fleet,
    of_kind,
    opened,
    told,
    wait_until,
)

PATIENCE_S = 600.0
KEEPALIVE_S = 3
NOT_IN_A_HURRY = {"grace_s": 300.0}
"""A device that went offline is waited for, so that all are in every round."""
FULL = Settings(training={"quantisation": "fp32"}, ranks={"initial": 32, "target": 32.0}, rounds=1)
"""Updates of more than a hundred kilobytes."""

pytestmark = pytest.mark.timeout(900)


@dataclass
class Calm:
    """What a run without faults came to, and the capabilities that it went by."""

    checkpoint: bytes
    capabilities: Path


def run_calmly(folder: Path, settings: Settings) -> Calm:
    with fleet(folder / "fleet", settings) as one:
        one.run()
        return Calm(one.checkpoint(), one.record_capabilities(folder / "capabilities.json"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return run_calmly(tmp_path_factory.mktemp("calm"), Settings())


@pytest.fixture(scope="module")
def half_calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Of one device and two rounds, which is soon done."""
    return run_calmly(tmp_path_factory.mktemp("half"), Settings(devices=("pi-1",), rounds=2))


def faulty(calm: Calm, port: int, **settings: Any) -> Settings:
    return Settings(port=port, capabilities=calm.capabilities, round=NOT_IN_A_HURRY, **settings)


@contextmanager
def over_links(folder: Path, links_kbit: Mapping[str, int | None], **settings: Any) -> Iterator[tuple[Network, Fleet]]:
    """Coordinator and broker at the gateway of a network, and each agent at the end of its link."""
    with (
        network(links_kbit) as net,
        mosquitto(folder, users=USERS, host=GATEWAY, prefix=net.inside()) as broker,
        fleet(folder / "fleet", Settings(port=broker.port, round=NOT_IN_A_HURRY, **settings)) as one,
    ):
        one.settings.broker = {"host": GATEWAY, "keepalive_s": KEEPALIVE_S}
        one.settings.prefixes = {"coordinator": net.inside(), **{device: net.inside(device) for device in links_kbit}}
        one.write()
        yield net, one


def assert_same_end(one: Fleet, calm: Calm, rounds: int = ROUNDS) -> None:
    """Every device in every round, once, and the model of the run without faults, bit for bit."""
    received = [(event.round, event.device) for event in of_kind(told(one.coordinator), events.Received)]
    assert sorted(received) == [(number, device) for number in range(1, rounds + 1) for device in DEVICES]
    assert [record.contributors for record in one.records()] == [DEVICES] * rounds
    assert one.checkpoint() == calm.checkpoint
    for device in DEVICES:
        assert one.agent_state(device) == calm.checkpoint


def pack_bytes(one: Fleet) -> int:
    return sum(path.stat().st_size for path in one.pack.iterdir())


@pytest.mark.slow
def test_links_of_64_kbit_and_1_and_10_mbit_come_to_the_model_of_fast_ones(tmp_path: Path, calm: Calm) -> None:
    rates_kbit = dict(zip(DEVICES, (64, 1000, 10_000), strict=True))
    with over_links(tmp_path, rates_kbit, capabilities=calm.capabilities) as (net, one):
        assert_ends_well(one.start_coordinator(), one.start_agents(), PATIENCE_S)
        assert_same_end(one, calm)
        for device in DEVICES:
            assert net.counted(device).bytes_down < 1.5 * pack_bytes(one), "hardly anything came twice"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["waits", "is killed"])
def test_a_link_cut_in_the_middle_of_the_pack_goes_on_with_what_is_missing(
    killed: bool, tmp_path: Path, calm: Calm
) -> None:
    """Whether its agent waits for the link or is killed meanwhile."""
    links_kbit: dict[str, int | None] = {**dict.fromkeys(DEVICES, None), "pi-1": 128}
    with over_links(tmp_path, links_kbit, capabilities=calm.capabilities) as (net, one):
        coordinator, agents = one.start_coordinator(), one.start_agents()
        whole_bytes = pack_bytes(one)
        pass_bytes(net, "bytes_down", 0.75 * whole_bytes)
        net.cut("pi-1")
        agents["pi-1"].says("no connection", PATIENCE_S)
        before_bytes = net.counted("pi-1").bytes_down
        if killed:
            agents["pi-1"].kill()
            agents["pi-1"] = one.start_agent("pi-1")
        net.restore("pi-1")
        assert_ends_well(coordinator, agents, PATIENCE_S)
        assert_same_end(one, calm)
        assert net.counted("pi-1").bytes_down < before_bytes + whole_bytes, "it did not start over"


@pytest.mark.slow
def test_a_link_cut_in_the_middle_of_an_update_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    calm = run_calmly(tmp_path / "calm", FULL)
    links_kbit = dict.fromkeys(DEVICES, None)
    settings = {"training": FULL.training, "ranks": FULL.ranks, "rounds": FULL.rounds}
    with over_links(tmp_path, links_kbit, capabilities=calm.capabilities, **settings) as (net, one):
        coordinator, agents = one.start_coordinator(), one.start_agents()
        agents["pi-1"].says("catching_up -> training", PATIENCE_S)
        net.shape("pi-1", 128)
        agents["pi-1"].says("training -> offering", PATIENCE_S)
        start_bytes, update_bytes = net.counted("pi-1").bytes_up, outgoing_bytes(one, "pi-1")
        assert update_bytes > 100_000
        pass_bytes(net, "bytes_up", start_bytes + 0.6 * update_bytes)
        net.cut("pi-1")
        agents["pi-1"].says("no connection", PATIENCE_S)
        before_bytes = net.counted("pi-1").bytes_up
        net.restore("pi-1")
        assert_ends_well(coordinator, agents, PATIENCE_S)
        assert_same_end(one, calm, FULL.rounds)
        assert net.counted("pi-1").bytes_up < before_bytes + update_bytes, "it did not start over"


@pytest.mark.slow
def test_devices_whose_connections_keep_breaking_come_to_the_same_model(tmp_path: Path, calm: Calm) -> None:
    faults = Faults(delay_s=(0.0, 0.02), rate_bytes_per_s=50_000, drop_after_s=(2.5, 8.0))
    with (
        mosquitto(tmp_path, users=USERS) as broker,
        proxy((broker.host, broker.port), faults, seed=11) as flaky,
        fleet(tmp_path / "fleet", faulty(calm, broker.port)) as one,
    ):
        one.settings.brokers = {device: {"port": flaky.port} for device in DEVICES}
        one.write()
        assert_ends_well(one.start_coordinator(), one.start_agents(), PATIENCE_S)
        assert_same_end(one, calm)
        assert flaky.connections > 2 * len(DEVICES)
        assert flaky.bytes_down < 2 * len(DEVICES) * pack_bytes(one), "nobody started over again and again"


@pytest.mark.parametrize(
    "way",
    [
        pytest.param({"up": False}, id="down", marks=pytest.mark.slow),
        pytest.param({"down": False}, id="up", marks=pytest.mark.slow),
        pytest.param({}, id="both"),
    ],
)
def test_a_half_open_connection_is_noticed_by_keep_alive_and_the_run_ends(
    way: dict[str, bool], tmp_path: Path, half_calm: Calm
) -> None:
    with (
        mosquitto(tmp_path, users=USERS) as broker,
        proxy((broker.host, broker.port)) as flaky,
        fleet(tmp_path / "fleet", faulty(half_calm, broker.port, devices=("pi-1",), rounds=2)) as one,
    ):
        one.settings.brokers = {"pi-1": {"port": flaky.port, "keepalive_s": KEEPALIVE_S}}
        one.write()
        coordinator, agents = one.start_coordinator(), one.start_agents()
        wait_until(lambda: flaky.bytes_down > 100_000, PATIENCE_S, lambda: "no pack came")
        flaky.freeze(**way)
        agents["pi-1"].says("no connection", PATIENCE_S)
        assert_ends_well(coordinator, agents, PATIENCE_S)
        assert flaky.connections == 2
        assert one.checkpoint() == half_calm.checkpoint == one.agent_state("pi-1")


@pytest.mark.slow
def test_a_broker_that_drops_large_packets_of_mqtt_3_without_a_word(tmp_path: Path, calm: Calm) -> None:
    """Packs go down and updates up in chunks that it takes, though both sides are configured for larger ones."""
    with (
        mosquitto(tmp_path, users=USERS, lines=("message_size_limit 6000",)) as broker,
        fleet(tmp_path / "fleet", faulty(calm, broker.port, broker={"protocol": "3.1.1"})) as one,
    ):
        coordinator, agents = one.start_coordinator(), one.start_agents()
        assert_ends_well(coordinator, agents, PATIENCE_S)
        assert_same_end(one, calm)
        for agent in agents.values():
            assert "chunks of 8192 bytes do not arrive, of 4096 they did" in agent.stderr


def outgoing_bytes(one: Fleet, device: str) -> int:
    """The size of the update in a device's outbox."""
    with opened(AgentStore(one.state_dir(device) / "agent.db", read_only=True)) as store:
        outgoing = store.outgoing()
        assert outgoing is not None
        return len(outgoing.body)


def pass_bytes(net: Network, way: str, size_bytes: float) -> None:
    """Waits until so many bytes passed the link of pi-1."""

    def look() -> bool:
        return bool(getattr(net.counted("pi-1"), way) >= size_bytes)

    wait_until(look, PATIENCE_S, lambda: f"only {net.counted('pi-1')} passed")
