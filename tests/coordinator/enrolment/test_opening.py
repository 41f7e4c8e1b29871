from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from coordinator.enrolment import admin_token
from coordinator.enrolment.opening import Fleet, enrolment_service
from edge_agent.enrolment.client import Gateway as Client
from edge_agent.enrolment.join import Wish, join
from edge_agent.enrolment.keys import Identity
from edge_agent.enrolment.renew import renew
from edge_agent.wire.errors import EnrolmentError
from edge_agent.wire.link import Connected, Disconnected, Received
from edge_agent.wire.tls import TlsSettings
from edge_agent.wire.topics import down, every_up, up
from tests.brokers import free_port, wait_for
from tests.coordinator.enrolment.gates import HOST, utc_now
from tests.gateways import FLEET, Gateway, founded, gateway

TEMPLATE = "#!/bin/sh\n# @CA@ @GATEWAY@ @FLEET@ @BROKER_PORT@\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Gateway]:
    with gateway(tmp_path / "site") as one:
        yield one


@pytest.fixture
def fleet(place: Gateway) -> Iterator[Fleet]:
    """A fleet whose service runs beside its broker."""
    settings = msgspec.structs.replace(place.settings, enrolment_port=free_port())
    made = Fleet(place.folder, settings, place.authority, TEMPLATE, utc_now)
    service = enrolment_service(made, host=HOST)
    service.start()
    yield made
    assert service.failed() is None
    service.stop()


def member(fleet: Fleet, name: str, folder: Path) -> TlsSettings:
    """A board that joined over HTTPS and was approved; its files for the broker."""
    with fleet.desk() as desk:
        token = desk.issue_token(utc_now(), device=name)
    said: list[str] = []
    wish = Wish(fleet.url, fleet.folder.ca_certificate, name, folder, token)
    thread = threading.Thread(target=lambda: join(wish, said.append, 60, 0.05))
    thread.start()
    with fleet.desk() as desk:
        while not (waiting := desk.registry.requests()):
            thread.join(0.02)
            assert thread.is_alive()
        desk.approve(waiting[0].id, utc_now())
    thread.join()
    assert "is a member" in said[-1]
    return TlsSettings(fleet.folder.ca_certificate, folder / "device.pem", folder / "device.key")


def test_a_board_that_joined_over_https_speaks_at_the_broker(place: Gateway, fleet: Fleet, tmp_path: Path) -> None:
    tls = member(fleet, "pi-1", tmp_path / "identity")
    folder = fleet.folder
    own = TlsSettings(folder.ca_certificate, folder.coordinator_certificate, folder.coordinator_key)
    coordinator = place.connected(own, every_up(FLEET), client="coordinator")
    device = place.connected(tls, down(FLEET, "pi-1"))
    device.publish(up(FLEET, "pi-1"), b"here")
    assert wait_for(coordinator, Received) == Received(up(FLEET, "pi-1"), b"here")


def test_a_revoked_board_is_cut_at_the_broker_and_refused_by_the_service(
    place: Gateway, fleet: Fleet, tmp_path: Path
) -> None:
    tls = member(fleet, "pi-1", tmp_path / "identity")
    device = place.connected(tls, down(FLEET, "pi-1"))
    with fleet.desk() as desk:
        assert desk.revoke("pi-1", utc_now()).session == "its session was ended"
    wait_for(device, Disconnected)
    assert "revoked" in place.refused(tls)
    pair = Identity(tmp_path / "identity").current()
    assert pair is not None
    with pytest.raises(EnrolmentError, match="revoked"):
        Client(fleet.url, fleet.folder.ca_certificate, tmp_path, pair.certificate, pair.key).ask("/v1/orders")
    again = member(fleet, "pi-1", tmp_path / "identity")
    place.connected(again, down(FLEET, "pi-1"))


def test_an_agent_takes_up_its_renewed_certificate_by_itself(place: Gateway, fleet: Fleet, tmp_path: Path) -> None:
    """The old one is withdrawn, so the session ends; the same link is back with the new one."""
    tls = member(fleet, "pi-1", tmp_path / "identity")
    device = place.connected(tls, down(FLEET, "pi-1"))
    with fleet.desk() as desk:
        desk.rotate("pi-1", utc_now() - timedelta(seconds=5))
    assert renew(fleet.url, fleet.folder.ca_certificate, tmp_path / "identity", lambda _: None)
    wait_for(device, Disconnected)
    wait_for(device, Connected)


def test_what_was_withdrawn_while_nothing_ran_is_told_at_the_start(tmp_path: Path) -> None:
    folder, made = founded(tmp_path / "site", enrolment_port=free_port())
    fleet = Fleet(folder, made.settings, made.authority, TEMPLATE, utc_now)
    before = folder.revoked.read_bytes()
    with fleet.desk() as desk:
        desk.issue_token(utc_now())
    enrolment_service(fleet)
    assert folder.revoked.read_bytes() != before


def test_an_administrator_shows_a_token_of_the_folder(fleet: Fleet) -> None:
    token = admin_token.make()
    admin_token.keep(fleet.folder, token)
    context = ssl.create_default_context(cafile=fleet.folder.ca_certificate)
    for shown, status in ((token, 200), (token[:-1], 401)):
        request = urllib.request.Request(f"{fleet.url}/v1/admin/devices", headers={"authorization": f"Bearer {shown}"})
        try:
            with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                assert answer.status == status
        except urllib.error.HTTPError as error:
            assert error.code == status
