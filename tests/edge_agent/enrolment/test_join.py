from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment.joining import Name
from edge_agent.enrolment import keys, openssl
from edge_agent.enrolment.join import Wish, join
from edge_agent.wire.errors import ConfigError, EnrolmentError, StoreError
from edge_agent.wire.folder_lock import only_one
from tests.coordinator.enrolment.gates import Gate, gate, utc_now
from tests.edge_agent.enrolment.boards import TIMEOUT_S, Board

POLL_S = 0.05


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Gate]:
    with gate(tmp_path) as made:
        yield made


def wish(site: Gate, token: str | None, name: str = "pi-1", **changes: object) -> Wish:
    values = {"gateway": site.url, "ca": site.ca, "device": name, "identity": site.folder / name, "token": token}
    return Wish(**{**values, **changes})  # type: ignore[arg-type]


def joined(site: Gate, name: str = "pi-1", token: str | None = None) -> list[str]:
    """What a board says that is let in at once."""
    with site.desk() as desk:
        desk.preapprove([Name(name, "")], utc_now())
    said: list[str] = []
    join(wish(site, token or site.token(), name), said.append, poll_s=POLL_S)
    return said


def wait_for_file(path: Path) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_real_board_joins_once_it_is_approved(site: Gate) -> None:
    board = Board(site, "pi-1")
    process = board.start("join", "--token", site.token())
    number = board.wait_pending()
    assert process.poll() is None, "it waits"
    with site.desk() as desk:
        fingerprint = desk.approve(number, utc_now()).fingerprint
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert f"fingerprint  {fingerprint}" in out
    assert f"rankfleet coordinator approve {number}" in out
    assert "is a member of the fleet" in out
    assert stat.S_IMODE((board.identity / "device.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(board.identity.stat().st_mode) == 0o700
    again = board.run("join")
    assert (again.returncode, "already" in again.stdout) == (0, True)


def test_a_board_that_was_killed_while_it_waited_goes_on_without_a_new_token(site: Gate) -> None:
    board = Board(site, "pi-1")
    process = board.start("join", "--token", site.token())
    number = board.wait_pending()
    wait_for_file(board.identity / "joining.json")
    process.kill()
    process.communicate()
    (key,) = board.keys()
    before = key.read_bytes()
    with site.desk() as desk:
        desk.approve(number, utc_now())
    assert board.run("join").returncode == 0
    assert (board.identity / "device.key").read_bytes() == before


def test_a_board_that_was_cut_off_before_it_heard_the_answer_uses_its_token_again(site: Gate) -> None:
    token = site.token()
    with pytest.raises(EnrolmentError, match="nobody approved"):
        join(wish(site, token), lambda _: None, wait_s=0)
    (site.folder / "pi-1" / "joining.json").unlink()
    said: list[str] = []
    with pytest.raises(EnrolmentError, match="nobody approved"):
        join(wish(site, token), said.append, wait_s=0)
    with site.desk() as desk:
        (request,) = desk.registry.requests()
        desk.approve(request.id, utc_now())
    join(wish(site, None), said.append, poll_s=POLL_S)
    assert "is a member" in said[-1]


def test_a_gateway_that_is_away_meanwhile_is_waited_for(site: Gate) -> None:
    said: list[str] = []
    thread = threading.Thread(target=lambda: join(wish(site, site.token()), said.append, 60, POLL_S))
    thread.start()
    while not any("waits for approval" in line for line in said):
        thread.join(0.02)
    site.stop()
    while not any("still waits" in line for line in said):
        thread.join(0.02)
    with site.desk() as desk:
        desk.approve(desk.registry.requests()[0].id, utc_now())
    site.start()
    thread.join(60)
    assert "is a member" in said[-1]


def test_a_rejected_board_is_told_why_and_can_ask_again(site: Gate) -> None:
    with pytest.raises(EnrolmentError, match="nobody approved"):
        join(wish(site, site.token()), lambda _: None, wait_s=0)
    with site.desk() as desk:
        desk.reject(desk.registry.requests()[0].id, "wrong site", utc_now())
    with pytest.raises(EnrolmentError, match="wrong site"):
        join(wish(site, None), lambda _: None)
    assert "is a member" in joined(site)[-1]


def test_a_revoked_board_joins_anew_with_another_key(site: Gate) -> None:
    joined(site)
    before = (site.folder / "pi-1" / "device.key").read_bytes()
    with site.desk() as desk:
        desk.revoke("pi-1", utc_now())
    with pytest.raises(ConfigError, match="token is needed"):
        join(wish(site, None), lambda _: None)
    said = joined(site)
    assert "joins anew" in said[0]
    assert (site.folder / "pi-1" / "device.key").read_bytes() != before


def test_a_board_whose_certificate_has_ended_joins_anew(site: Gate) -> None:
    """As one that lay in a drawer for a year."""
    joined(site)
    identity = keys.Identity(site.folder / "pi-1")
    former, pair = identity.current(), identity.next()
    assert former is not None
    long_ago = utc_now() - timedelta(days=400)
    identity.switch(pair, site.authority.sign(openssl.make_request(pair.key, "x"), "pi-1", long_ago).certificate_pem)
    keys.drop(former)
    said: list[str] = []
    with pytest.raises(EnrolmentError, match="nobody approved"):
        join(wish(site, site.token("pi-1")), said.append, wait_s=0)
    assert "joins anew" in said[0]


@pytest.mark.parametrize("valid_min", [-1, 15])
def test_a_token_that_ran_out_or_was_used_is_refused_with_what_to_do(site: Gate, valid_min: float) -> None:
    token = site.token(valid_min=valid_min)
    if valid_min > 0:
        joined(site, "pi-2", token)
    board = Board(site, "pi-1")
    done = board.run("join", "--token", token)
    assert done.returncode == 1
    assert "rankfleet coordinator token" in done.stderr


def test_a_name_that_is_anothers_is_refused(site: Gate) -> None:
    joined(site)
    with pytest.raises(EnrolmentError, match="another key"):
        join(wish(site, site.token(), identity=site.folder / "other"), lambda _: None)


def test_a_folder_belongs_to_one_device(site: Gate) -> None:
    joined(site)
    with pytest.raises(ConfigError, match="identity of the device pi-1"):
        join(wish(site, site.token(), device="pi-2"), lambda _: None)


def test_a_damaged_record_is_as_good_as_none(site: Gate) -> None:
    token = site.token()
    with pytest.raises(EnrolmentError, match="nobody approved"):
        join(wish(site, token), lambda _: None, wait_s=0)
    for text in ("{", "[]", json.dumps({"id": 3})):
        (site.folder / "pi-1" / "joining.json").write_text(text)
        with pytest.raises(EnrolmentError, match="nobody approved"):
            join(wish(site, token), lambda _: None, wait_s=0)


def test_one_at_a_time(site: Gate) -> None:
    with only_one(site.folder / "pi-1", "renewal"), pytest.raises(StoreError, match="another"):
        join(wish(site, site.token()), lambda _: None)


def test_what_is_missing_of_the_options_is_named(site: Gate) -> None:
    board = Board(site, "pi-1")
    board.config.write_text(board.config.read_text().partition("[gateway]")[0])
    done = board.run("join", "--token", "x")
    assert done.returncode == 1
    assert "gateway.url" in done.stderr
