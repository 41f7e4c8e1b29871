"""Against a real Mosquitto, with passwords and with certificates."""

from __future__ import annotations

import socket
import threading
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import AgentConfig
from edge_agent.doctor import broker as doctor
from edge_agent.wire.folder_lock import only_one
from edge_agent.wire.link import Connected, Disconnected
from edge_agent.wire.mqtt import MqttLink
from edge_agent.wire.settings import BrokerSettings, mqtt_settings
from tests.brokers import PASSWORD, Mosquitto, free_port, mosquitto, wait_for
from tests.edge_agent.doctor.certs import identity

TLS = ("require_certificate true", "use_identity_as_username true", "use_username_as_clientid true")


@pytest.fixture
def settings(tmp_path: Path) -> AgentConfig:
    (tmp_path / "password").write_text(PASSWORD)
    broker = BrokerSettings(port=free_port(), password_file=tmp_path / "password")
    return AgentConfig("pi-1", "f", tmp_path / "texts.jsonl", tmp_path / "state", broker)


def enrolled(settings: AgentConfig, folder: Path) -> tuple[AgentConfig, tuple[str, ...]]:
    """The settings with certificates, and what a broker needs for them."""
    files = identity(folder, "pi-1", datetime.now(timezone.utc))
    lines = (f"cafile {folder / 'ca.pem'}", f"certfile {folder / 'server.pem'}", f"keyfile {folder / 'server.key'}")
    return msgspec.structs.replace(settings, broker=files), (*lines, *TLS)


def reaching(settings: AgentConfig, broker: Mosquitto) -> AgentConfig:
    return msgspec.structs.replace(settings, broker=msgspec.structs.replace(settings.broker, port=broker.port))


def test_the_broker_takes_the_device_in_or_says_why_not(settings: AgentConfig, tmp_path: Path) -> None:
    with mosquitto(tmp_path) as running:
        there = reaching(settings, running)
        assert doctor.broker(there).level == "ok"
        wrong = tmp_path / "wrong"
        wrong.write_text("guess")
        guess = msgspec.structs.replace(there.broker, password_file=wrong)
        found = doctor.broker(msgspec.structs.replace(there, broker=guess))
        assert found.level == "failure" and "refuses us" in found.found


def test_a_broker_that_is_not_there_is_named(settings: AgentConfig) -> None:
    found = doctor.broker(settings, answer_s=1.0)
    assert found.level == "failure" and f"127.0.0.1:{settings.broker.port}" in found.found


def test_a_missing_file_is_named(settings: AgentConfig, tmp_path: Path) -> None:
    for field in ("password_file", "ca_file"):
        broker = msgspec.structs.replace(settings.broker, **{field: tmp_path / "none"})
        found = doctor.broker(msgspec.structs.replace(settings, broker=broker))
        assert found.level == "failure" and "none" in found.found


def test_an_agent_that_runs_keeps_its_connection_where_the_certificate_names_the_client(
    settings: AgentConfig, tmp_path: Path
) -> None:
    settings, lines = enrolled(settings, tmp_path)
    with mosquitto(tmp_path, lines=lines) as running:
        there = reaching(settings, running)
        agent = MqttLink(mqtt_settings(there.broker, "pi-1"), ())
        try:
            wait_for(agent, Connected)
            with only_one(settings.state_dir, "agent"):
                found = doctor.broker(there)
            assert (found.level, "no more was tried" in found.found) == ("ok", True), found
            assert agent.receive(2.0) is None, "it was not disturbed"
            assert doctor.broker(there).found.endswith("takes us in"), "where no agent runs, all of it is tried"
            wait_for(agent, Disconnected)  # which is why
        finally:
            agent.close()


def test_a_certificate_of_another_fleet_is_refused_while_the_agent_runs(settings: AgentConfig, tmp_path: Path) -> None:
    settings, lines = enrolled(settings, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    identity(other, "pi-1", datetime.now(timezone.utc))
    files = msgspec.structs.replace(
        settings.broker, certificate_file=other / "device.pem", key_file=other / "device.key"
    )
    with mosquitto(tmp_path, lines=lines) as running, only_one(settings.state_dir, "agent"):
        assert doctor.broker(reaching(msgspec.structs.replace(settings, broker=files), running)).level == "failure"
        files = msgspec.structs.replace(settings.broker, ca_file=other / "ca.pem")
        found = doctor.broker(reaching(msgspec.structs.replace(settings, broker=files), running))
        assert found.level == "failure" and "certificate verify failed" in found.found


def test_a_server_that_speaks_no_tls_is_a_failure(settings: AgentConfig, tmp_path: Path) -> None:
    settings, _ = enrolled(settings, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server, only_one(settings.state_dir, "agent"):

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        broker = msgspec.structs.replace(settings.broker, port=server.getsockname()[1])
        assert doctor.broker(msgspec.structs.replace(settings, broker=broker)).level == "failure"
