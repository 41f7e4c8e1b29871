"""A real Mosquitto with the configuration of a fleet: whom it lets in, and to what."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment import broker_config
from coordinator.enrolment.authority import Authority, Pair
from coordinator.enrolment.broker_config import Mosquitto, access_list, configuration, installed, parse_version
from coordinator.enrolment.fleet import FleetSettings
from coordinator.enrolment.folder import FleetFolder
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.link import Disconnected, Received
from edge_agent.wire.mqtt import DEFAULT_PACKET_BYTES
from edge_agent.wire.tls import TlsSettings, context
from edge_agent.wire.topics import down, every_up, up
from tests.brokers import wait_for
from tests.certificates import HOST, LONG_AGO, NOW
from tests.gateways import FLEET, Gateway, gateway

SETTINGS = FleetSettings(FLEET, (HOST,))
OWN_UP, OWN_DOWN = up(FLEET, "pi-1"), down(FLEET, "pi-1")
OTHERS_UP, OTHERS_DOWN = up(FLEET, "pi-2"), down(FLEET, "pi-2")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("gateway")) as one:
        yield one


@pytest.fixture
def place(running: Gateway) -> Iterator[Gateway]:
    yield running
    running.close()


def coordinator_tls(place: Gateway) -> TlsSettings:
    folder = place.folder
    return TlsSettings(folder.ca_certificate, folder.coordinator_certificate, folder.coordinator_key)


def test_a_device_and_the_coordinator_speak_with_each_other(place: Gateway) -> None:
    coordinator = place.connected(coordinator_tls(place), every_up(FLEET), client="coordinator")
    device = place.connected(place.tls("pi-1"), OWN_DOWN)
    assert device.publish(OWN_UP, b"hello")
    assert wait_for(coordinator, Received) == Received(OWN_UP, b"hello")
    assert coordinator.publish(OWN_DOWN, b"welcome")
    assert wait_for(device, Received) == Received(OWN_DOWN, b"welcome")


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_it_listens_on_every_address_of_the_system(host: str, place: Gateway) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("NOT TESTED: this system has no IPv6")
    with (
        socket.create_connection((host, place.settings.broker_port), 20) as plain,
        context(place.tls("pi-1")).wrap_socket(plain, server_hostname=HOST) as secured,
    ):
        assert secured.version() == "TLSv1.3"


def test_a_certificate_of_another_authority_is_refused_and_the_device_told_why(place: Gateway) -> None:
    stranger = place.stored(Authority.create(FLEET, NOW).client("pi-1", NOW), "stranger")
    assert "our certificate is of another fleet's authority" in place.refused(stranger)


def test_an_expired_certificate_is_refused_and_the_device_told_why(place: Gateway) -> None:
    assert "our certificate has expired" in place.refused(place.tls("pi-1", LONG_AGO, file="expired"))


def test_a_certificate_that_is_not_valid_yet_is_refused(place: Gateway) -> None:
    early = place.tls("pi-1", NOW + timedelta(days=3), file="early")
    assert "not valid yet by the gateway's clock" in place.refused(early)


def test_the_servers_certificate_is_no_clients(place: Gateway) -> None:
    folder = place.folder
    server = place.stored(Pair(folder.server_key.read_bytes(), folder.server_certificate.read_bytes()), "server")
    assert "not one of a client" in place.refused(server)


def test_no_certificate_is_refused(place: Gateway) -> None:
    assert "a client certificate is wanted" in place.refused(TlsSettings(place.folder.ca_certificate))


def test_plain_tcp_is_refused(place: Gateway) -> None:
    assert "does not answer as an MQTT broker does" in place.refused(None)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_older_than_1_2_is_refused(place: Gateway) -> None:
    for newest, taken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        terms = context(place.tls("pi-1"))
        terms.minimum_version, terms.maximum_version = ssl.TLSVersion.TLSv1, newest
        terms.set_ciphers("ALL:@SECLEVEL=0")  # or this side would refuse by itself
        with socket.create_connection((HOST, place.settings.broker_port)) as raw:
            try:
                with terms.wrap_socket(raw, server_hostname=HOST) as wrapped:
                    assert taken and wrapped.version() == "TLSv1.2"
            except ssl.SSLError as error:
                assert not taken
                assert error.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_another_devices_topics_can_neither_be_written_nor_read(place: Gateway) -> None:
    coordinator = place.connected(coordinator_tls(place), every_up(FLEET), client="coordinator")
    thief = place.connected(place.tls("pi-1"), OTHERS_DOWN, OTHERS_UP, every_up(FLEET), "#", OWN_DOWN)
    other = place.connected(place.tls("pi-2"), OTHERS_DOWN)
    thief.publish(OTHERS_UP, b"forged")
    thief.publish(OTHERS_DOWN, b"forged")
    thief.publish("rankfleet/another/pi-1/up", b"forged")
    other.publish(OTHERS_UP, b"secret")
    assert wait_for(coordinator, Received) == Received(OTHERS_UP, b"secret")
    coordinator.publish(OTHERS_DOWN, b"secret")
    assert wait_for(other, Received) == Received(OTHERS_DOWN, b"secret")
    coordinator.publish(OWN_DOWN, b"mine")
    assert wait_for(thief, Received) == Received(OWN_DOWN, b"mine"), "what is not its own did not come"


def test_another_devices_name_and_client_id_are_of_no_use(place: Gateway) -> None:
    other = place.connected(place.tls("pi-2"), OTHERS_DOWN, client="pi-2")
    thief = place.connected(place.tls("pi-1"), OTHERS_DOWN, client="pi-2")
    coordinator = place.connected(coordinator_tls(place), every_up(FLEET), client="coordinator")
    thief.publish(OTHERS_UP, b"forged")
    other.publish(OTHERS_UP, b"true")
    assert wait_for(coordinator, Received) == Received(OTHERS_UP, b"true")
    assert other.receive(0.5) is None, "its session was not disturbed"


def test_a_packet_over_the_limit_ends_its_senders_connection_and_is_not_passed_on(place: Gateway) -> None:
    coordinator = place.connected(coordinator_tls(place), every_up(FLEET), client="coordinator")
    device = place.connected(place.tls("pi-1"), client="pi-1", protocol="3.1.1", max_packet_bytes=2**20)
    device.publish(OWN_UP, bytes(DEFAULT_PACKET_BYTES))  # False where the broker hangs up before all of it is written
    wait_for(device, Disconnected)
    assert coordinator.receive(0.5) is None


def test_what_a_broker_of_2_0_and_of_2_1_is_told_differs_in_its_access_list_only() -> None:
    folder = FleetFolder(Path("/srv/fleet"))
    plugin = Path("/usr/lib/mosquitto_acl_file.so")
    old = configuration(folder, SETTINGS, "gw", Mosquitto(Path("m"), (2, 0))).splitlines()
    new = configuration(folder, SETTINGS, "gw", Mosquitto(Path("m"), (2, 1), plugin)).splitlines()
    assert set(old) - set(new) == {"acl_file /srv/fleet/mosquitto/acl"}
    assert set(new) - set(old) == {f"global_plugin {plugin}", "plugin_opt_acl_file /srv/fleet/mosquitto/acl"}
    for line in ("allow_anonymous false", "require_certificate true", "tls_version tlsv1.2", "user gw"):
        assert line in old


def test_one_pattern_is_for_all_devices() -> None:
    assert access_list("depot").split("\n") == [
        "user coordinator",
        "topic readwrite rankfleet/depot/#",
        "",
        "# each device its own topics: %u is the name in its certificate",
        "pattern readwrite rankfleet/depot/%u/#",
        "",
    ]


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("mosquitto version 2.0.11\n\nmosquitto is an MQTT", (2, 0)),
        ("mosquitto version 2.1.2\n", (2, 1)),
        ("mosquitto version 3.0.0-rc1\n", (3, 0)),
    ],
)
def test_the_version_is_read_off_the_help(said: str, version: tuple[int, int]) -> None:
    assert parse_version(said) == version


@pytest.mark.parametrize("said", ["mosquitto version 1.6.9\n", "something else", ""])
def test_a_broker_that_is_too_old_or_none_says_what_to_install(said: str) -> None:
    with pytest.raises(ConfigError, match="sudo apt install mosquitto"):
        parse_version(said)


def test_where_there_is_no_mosquitto_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_config.shutil, "which", lambda name: "/nowhere/mosquitto")
    with pytest.raises(ConfigError, match="sudo apt install mosquitto"):
        installed()


def fake(root: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that says it is that version."""
    binary = root / "sbin" / "mosquitto"
    binary.parent.mkdir()
    binary.write_text(f"#!/bin/sh\necho mosquitto version {version}\n")
    binary.chmod(0o755)
    monkeypatch.setattr(broker_config, "_LIBRARIES", ())
    monkeypatch.setattr(broker_config.shutil, "which", lambda name: str(binary))
    return binary


@pytest.mark.parametrize("below", ["lib", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu/mosquitto"])
def test_the_plugin_of_2_1_is_found_where_systems_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    binary, plugin = fake(tmp_path, "2.1.2", monkeypatch), tmp_path / below / "mosquitto_acl_file.so"
    assert installed() == Mosquitto(binary, (2, 1), None), "it still takes the file without"
    plugin.parent.mkdir(parents=True)
    plugin.touch()
    assert installed() == Mosquitto(binary, (2, 1), plugin)


def test_a_broker_that_has_access_lists_in_a_plugin_only_is_refused_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, "3.0.0", monkeypatch)
    with pytest.raises(ConfigError, match=r"mosquitto_acl_file\.so of .* was not found"):
        installed()


def test_a_path_that_would_be_another_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="control characters"):
        configuration(FleetFolder(Path("/srv/a\nallow_anonymous true")), SETTINGS, "gw", Mosquitto(Path("m"), (2, 0)))


def test_a_folder_with_a_blank_in_its_name_is_taken(tmp_path: Path) -> None:
    with gateway(tmp_path / "my fleet") as one:
        one.connected(one.tls("pi-1"), OWN_DOWN)


def test_only_the_coordinator_tells_home_assistant_and_only_that_reads_it(tmp_path: Path) -> None:
    with gateway(tmp_path / "with", home_assistant="home-assistant") as place:
        coordinator = place.connected(coordinator_tls(place), client="coordinator")
        device = place.connected(place.tls("pi-1"), "homeassistant/#", f"rankfleet/{FLEET}/coordinator/boards/#")
        assert device.retain("homeassistant/device/pi-1/config", b"forged")
        assert coordinator.retain("homeassistant/device/pi-2/config", b"found")
        assert coordinator.retain(f"rankfleet/{FLEET}/coordinator/boards/pi-2", b"state")
        assistant = place.connected(
            place.tls("home-assistant"), "homeassistant/#", f"rankfleet/{FLEET}/#", client="home-assistant"
        )
        heard = {wait_for(assistant, Received) for _ in range(2)}
        assert heard == {
            Received("homeassistant/device/pi-2/config", b"found"),
            Received(f"rankfleet/{FLEET}/coordinator/boards/pi-2", b"state"),
        }
        assert coordinator.publish(OWN_DOWN, b"for the board alone")
        assert assistant.receive(1.0) is None and device.receive(0.2) is None


def test_a_broker_that_retains_nothing_is_not_asked_to(place: Gateway) -> None:
    coordinator = place.connected(coordinator_tls(place), client="coordinator")
    assert not coordinator.retain(f"rankfleet/{FLEET}/coordinator/boards/pi-1", b"state")
    assert coordinator.publish(OWN_DOWN, b"still connected")
