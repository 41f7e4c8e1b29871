from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment.joining import Name
from edge_agent.enrolment import dates, keys, openssl
from edge_agent.enrolment.client import Gateway
from edge_agent.enrolment.join import Wish, join
from edge_agent.enrolment.renew import renew
from edge_agent.wire.errors import EnrolmentError
from edge_agent.wire.tls import TlsSettings, context
from tests.coordinator.enrolment.fleets import BoardKey
from tests.coordinator.enrolment.gates import Gate, gate, utc_now
from tests.edge_agent.enrolment.boards import Board


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Gate]:
    with gate(tmp_path) as made:
        yield made


@pytest.fixture
def board(site: Gate) -> Board:
    made = Board(site, "pi-1")
    with site.desk() as desk:
        desk.preapprove([Name("pi-1", "")], utc_now())
    join(Wish(site.url, site.ca, "pi-1", made.identity, site.token()), lambda _: None)
    return made


def pair(board: Board) -> tuple[bytes, bytes]:
    """Key and certificate as a program reads them, which fit."""
    certificate, key = board.identity / "device.pem", board.identity / "device.key"
    context(TlsSettings(board.site.ca, certificate, key))
    return key.read_bytes(), certificate.read_bytes()


def again(board: Board) -> tuple[bool, str]:
    said: list[str] = []
    done = renew(board.site.url, board.site.ca, board.identity, said.append)
    return done, said[-1]


def states(board: Board) -> list[str]:
    with board.site.desk() as desk:
        return sorted(one.state for one in desk.registry.certificates())


def test_a_young_certificate_is_left_alone(board: Board) -> None:
    before = pair(board)
    done = board.run("renew")
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    assert pair(board) == before


def test_an_order_is_followed_with_a_new_key_and_the_old_certificate_is_withdrawn(board: Board) -> None:
    before = pair(board)
    with board.site.desk() as desk:
        desk.rotate("pi-1", utc_now() - timedelta(seconds=5))
    done = board.run("renew")
    assert (done.returncode, "renewed" in done.stdout) == (0, True)
    after = pair(board)
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert states(board) == ["current", "revoked"]
    assert len(board.keys()) == 1
    assert again(board)[0] is False, "the order is fulfilled"


def test_the_last_third_of_its_lifetime_is_when_it_renews(board: Board) -> None:
    dates.note(board.identity, (utc_now() + timedelta(days=58)).timestamp())
    assert again(board)[0] is False
    dates.note(board.identity, (utc_now() + timedelta(days=62)).timestamp())
    assert again(board)[0] is True


@pytest.mark.parametrize("lost", ["answer", "switch", "first use"])
def test_a_renewal_that_was_cut_off_is_ended(board: Board, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with board.site.desk() as desk:
        desk.rotate("pi-1", utc_now() - timedelta(seconds=5))
    real_ask, real_switch, asked = Gateway.ask, keys.Identity.switch, []

    def ask(self: Gateway, path: str, body: object = None) -> dict[str, object]:
        asked.append(path)
        if lost == "first use" and asked.count("/v1/orders") == 2:
            raise KeyboardInterrupt
        answer = real_ask(self, path, body)  # type: ignore[arg-type]
        if lost == "answer" and path == "/v1/renewals":
            raise KeyboardInterrupt
        return answer

    def switch(self: keys.Identity, pair: keys.Pair, certificate: bytes) -> None:
        if lost == "switch":
            raise KeyboardInterrupt
        real_switch(self, pair, certificate)

    monkeypatch.setattr(Gateway, "ask", ask)
    monkeypatch.setattr(keys.Identity, "switch", switch)
    with pytest.raises(KeyboardInterrupt):
        again(board)
    monkeypatch.undo()
    pair(board)
    again(board)
    pair(board)
    assert states(board) == ["current", "revoked"], "one was asked for, whatever happened"
    assert again(board)[0] is False


def test_a_key_that_the_gateway_has_given_up_is_replaced(board: Board) -> None:
    waiting = keys.Identity(board.identity).next()
    with board.site.desk() as desk:
        member = desk.admit(int(desk.registry.certificates()[0].serial, 16), utc_now())
        for request in (openssl.make_request(waiting.key, "x"), BoardKey.make().request_pem):
            desk.renew(member, request, utc_now())
        desk.rotate("pi-1", utc_now() - timedelta(seconds=5))
    assert again(board)[0] is True
    assert not waiting.key.exists()


def test_a_board_that_never_joined_is_told_to(site: Gate) -> None:
    done = Board(site, "pi-2").run("renew")
    assert done.returncode == 1
    assert "agent join" in done.stderr


def test_a_revoked_board_is_told_to_join_again(board: Board) -> None:
    with board.site.desk() as desk:
        desk.revoke("pi-1", utc_now())
    with pytest.raises(EnrolmentError, match="join again") as refused:
        again(board)
    assert refused.value.status == 403
