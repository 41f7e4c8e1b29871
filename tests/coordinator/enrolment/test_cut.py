"""Devices that are shut out while they are connected: a real Mosquitto, real sessions."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.enrolment import cut as cutting
from coordinator.enrolment.cut import Outcome, Revocations, cut, publish, reload, running
from edge_agent.wire.errors import LinkError
from edge_agent.wire.link import Connected, Disconnected, Received
from edge_agent.wire.tls import TlsSettings
from edge_agent.wire.topics import down, every_up, up
from tests.brokers import wait_for
from tests.certificates import now
from tests.gateways import FLEET, Gateway, founded, gateway, serial_of

OWN_UP, OWN_DOWN = up(FLEET, "pi-1"), down(FLEET, "pi-1")
SECONDS = 5.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Gateway]:
    with gateway(tmp_path) as one:
        yield one


def revoked(tls: TlsSettings) -> Revocations:
    return Revocations(frozenset({serial_of(tls)}), frozenset({"pi-1"}))


def test_a_live_session_is_cut_within_seconds_and_cannot_come_back(place: Gateway) -> None:
    folder = place.folder
    own = TlsSettings(folder.ca_certificate, folder.coordinator_certificate, folder.coordinator_key)
    coordinator = place.connected(own, every_up(FLEET), client="coordinator")
    tls, other_tls = place.tls("pi-1"), place.tls("pi-2")
    device, other = place.connected(tls, OWN_DOWN), place.connected(other_tls, down(FLEET, "pi-2"))
    began_s = time.monotonic()
    assert cut(folder, place.authority, "pi-1", revoked(tls), now()) is Outcome.CUT
    wait_for(device, Disconnected)
    assert not device.publish(OWN_UP, b"still here")
    assert time.monotonic() - began_s < SECONDS
    assert "our certificate is revoked" in place.refused(tls)
    other.publish(up(FLEET, "pi-2"), b"here")
    assert wait_for(coordinator, Received) == Received(up(FLEET, "pi-2"), b"here"), "nothing of pi-1 came"
    assert folder.revoked_devices.read_text() == "pi-1\n"


def test_the_device_goes_on_trying_and_is_back_when_it_is_let_in_again(place: Gateway) -> None:
    tls = place.tls("pi-1")
    device = place.connected(tls, OWN_DOWN)
    cut(place.folder, place.authority, "pi-1", revoked(tls), now())
    reasons = [wait_for(device, Disconnected) for _ in range(2)]
    assert not any(gone.fatal for gone in reasons)
    assert "our certificate is revoked" in reasons[-1].reason
    publish(place.folder, place.authority, Revocations(frozenset(), frozenset()), now())
    assert reload(place.folder)
    wait_for(device, Connected)


def test_a_device_that_is_renewed_in_place_connects_with_the_new_files(place: Gateway) -> None:
    """The old certificate alone is revoked; the running link takes the new one, which has the same name."""
    tls = place.tls("pi-1")
    device, old = place.connected(tls, OWN_DOWN), serial_of(tls)
    place.tls("pi-1")  # another certificate in the same files
    revocations = Revocations(frozenset({old}), frozenset())
    assert cut(place.folder, place.authority, "pi-1", revocations, now()) is Outcome.CUT
    wait_for(device, Disconnected)
    wait_for(device, Connected)
    assert device.publish(OWN_UP, b"hello again")


def test_a_device_that_is_not_connected_is_refused_from_then_on(place: Gateway) -> None:
    tls = place.tls("pi-1")
    assert cut(place.folder, place.authority, "pi-1", revoked(tls), now()) is Outcome.NO_SESSION
    assert "our certificate is revoked" in place.refused(tls)


def test_a_session_on_mqtt_3_is_cut_too(place: Gateway) -> None:
    tls = place.tls("pi-1")
    device = place.connected(tls, OWN_DOWN, protocol="3.1.1")
    cut(place.folder, place.authority, "pi-1", revoked(tls), now())
    wait_for(device, Disconnected)
    assert "our certificate is revoked" in wait_for(device, Disconnected).reason


def test_without_a_broker_the_lists_hold_at_its_next_start(tmp_path: Path) -> None:
    with gateway(tmp_path) as place:
        tls = place.tls("pi-1")
        place.broker.stop()
        assert cut(place.folder, place.authority, "pi-1", revoked(tls), now()) is Outcome.NOT_RUNNING
        place.broker.start()
        assert "our certificate is revoked" in place.refused(tls)


def test_the_lists_hold_what_was_revoked_and_nothing_of_the_helpers(place: Gateway) -> None:
    tls = place.tls("pi-1")
    cut(place.folder, place.authority, "pi-1", revoked(tls), now())
    listed = x509.load_pem_x509_crl(place.folder.revoked.read_bytes())
    assert [one.serial_number for one in listed] == [serial_of(tls)]


def test_a_broker_that_does_not_take_the_list_is_not_passed_over(
    place: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "RELOAD_S", 0.3)
    monkeypatch.setattr(cutting, "reload", lambda folder: True)
    with pytest.raises(LinkError, match="did not take the new list"):
        cut(place.folder, place.authority, "pi-1", revoked(place.tls("pi-1")), now())


def test_a_stale_process_number_is_never_signalled(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    received = []
    before = signal.signal(signal.SIGHUP, lambda *_: received.append(1))
    try:
        folder.broker_pid.write_text(f"{os.getpid()}\n")
        assert running(folder) is None and not reload(folder)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not received
