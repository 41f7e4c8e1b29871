"""Whether the broker takes the agent in, without disturbing one that runs."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import time

from edge_agent import config
from edge_agent.doctor.finding import Finding
from edge_agent.service.busy import is_held
from edge_agent.wire import tls
from edge_agent.wire.errors import RankfleetError
from edge_agent.wire.folder_lock import LOCK
from edge_agent.wire.link import Connected, Disconnected
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from edge_agent.wire.settings import mqtt_settings

ANSWER_S = 15.0
REFUSAL_S = 1.0
"""How long a broker is given to refuse a certificate: with TLS 1.3 it does so after the handshake."""
_REMEDY = "Check broker.host and broker.port, the gateway's firewall, and this device's user at the broker."


def broker(settings: config.AgentConfig, answer_s: float = ANSWER_S) -> Finding:
    """A connection as this device.

    Where a broker takes the name from the certificate, it takes the client's name from there too, and a second
    connection would end the agent's. So while an agent runs, only the encrypted connection is tried; else, and without
    TLS, a whole one under another client name.
    """
    address = f"{settings.broker.host}:{settings.broker.port}"
    try:
        terms = mqtt_settings(settings.broker, settings.device)
        if terms.tls is not None and _may_run(settings):
            return _handshake(terms, address, answer_s)
        link = MqttLink(dataclasses.replace(terms, client_id=f"{settings.device}-doctor"), ())
    except RankfleetError as error:
        return Finding("broker", "failure", str(error), "Give it the files that the gateway has for this device.")
    try:
        said = _answer(link, answer_s)
    finally:
        link.close()
    if said is None:
        return Finding("broker", "ok", f"{address} takes us in")
    return Finding("broker", "failure", said, _REMEDY)


def _may_run(settings: config.AgentConfig) -> bool:
    try:
        return is_held(settings.state_dir / LOCK)
    except OSError:
        return True  # another user's


def _handshake(terms: MqttSettings, address: str, answer_s: float) -> Finding:
    """TCP and TLS alone. Raises ConfigError where the files cannot be used."""
    if terms.tls is None:
        raise AssertionError("only called with TLS")
    context = tls.context(terms.tls)
    try:
        with (
            socket.create_connection((terms.host, terms.port), timeout=answer_s) as plain,
            context.wrap_socket(plain, server_hostname=terms.host) as encrypted,
        ):
            encrypted.settimeout(REFUSAL_S)
            refused = encrypted.recv(1) == b""
    except TimeoutError:
        refused = False  # it waits for us to speak
    except (ssl.SSLError, OSError) as error:
        return Finding("broker", "failure", f"{address}: {error}", _REMEDY)
    if refused:
        return Finding("broker", "failure", f"{address} hung up after the handshake", _REMEDY)
    return Finding("broker", "ok", f"{address} takes our certificate; no more was tried, for the agent runs")


def _answer(link: MqttLink, answer_s: float) -> str | None:
    """What keeps us out; None if nothing does."""
    deadline_s, last = time.monotonic() + answer_s, f"no answer within {answer_s:g} s"
    while (left_s := deadline_s - time.monotonic()) > 0:
        event = link.receive(left_s)
        if isinstance(event, Connected):
            return None
        if isinstance(event, Disconnected):
            last = event.reason
            if event.fatal:
                break
    return last
