from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.enrolment.desk import Desk, Revoked, serial_of
from coordinator.enrolment.joining import Name
from coordinator.enrolment.registry import Registry, Request
from edge_agent.wire.errors import ConfigError, EnrolmentError
from tests.coordinator.enrolment.fleets import AUTHORITY, DAYS, NOW, BoardKey, Told, desk_in, serial_in

KEYS = [BoardKey.make() for _ in range(4)]
NAMES = ("pi-1", "pi-2")
MINUTE = timedelta(minutes=1)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def desk(tmp_path: Path, told: Told) -> Iterator[Desk]:
    made = desk_in(tmp_path, told)
    yield made
    made.registry.close()


def join(desk: Desk, name: str = "pi-1", key: BoardKey = KEYS[0], now: datetime = NOW) -> int:
    """The serial number of a board's first certificate."""
    token = desk.issue_token(now, device=name)
    request = desk.submit(token, name, key.request_pem, now)
    return serial_in(desk.approve(request.id, now).certificate)


def test_a_board_waits_for_approval_and_then_is_in(desk: Desk) -> None:
    request = desk.submit(desk.issue_token(NOW), "pi-1", KEYS[0].request_pem, NOW)
    assert (request.state, request.certificate) == ("pending", None)
    serial = serial_in(desk.approve(request.id, NOW).certificate)
    member = desk.admit(serial, NOW)
    assert (member.device, member.replaced) == ("pi-1", False)


def test_only_the_hash_of_a_token_is_kept(desk: Desk, tmp_path: Path) -> None:
    token = desk.issue_token(NOW)
    desk.submit(token, "pi-1", KEYS[0].request_pem, NOW)
    desk.registry.close()
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_token_runs_out(desk: Desk) -> None:
    token = desk.issue_token(NOW, valid_min=15)
    with pytest.raises(EnrolmentError, match="ran out 0 s ago") as refused:
        desk.submit(token, "pi-1", KEYS[0].request_pem, NOW + 15 * MINUTE)
    assert refused.value.status == 403
    desk.submit(token, "pi-1", KEYS[0].request_pem, NOW + 14 * MINUTE)


def test_the_same_key_gets_the_same_answer_even_after_the_token_ran_out(desk: Desk) -> None:
    token = desk.issue_token(NOW)
    first = desk.submit(token, "pi-1", KEYS[0].request_pem, NOW)
    approved = desk.approve(first.id, NOW)
    assert desk.submit(token, "pi-1", KEYS[0].request_pem, NOW + 100 * MINUTE) == approved


@pytest.mark.parametrize(("name", "key"), [("pi-1", KEYS[1]), ("pi-2", KEYS[0])])
def test_a_token_is_used_once(desk: Desk, name: str, key: BoardKey) -> None:
    token = desk.issue_token(NOW)
    desk.submit(token, "pi-1", KEYS[0].request_pem, NOW)
    with pytest.raises(EnrolmentError, match="used before"):
        desk.submit(token, name, key.request_pem, NOW)


def test_a_token_of_another_fleet_is_unknown(desk: Desk) -> None:
    with pytest.raises(EnrolmentError, match="no such token"):
        desk.submit("0" * 40, "pi-1", KEYS[0].request_pem, NOW)


def test_a_token_for_a_name_admits_no_other(desk: Desk) -> None:
    token = desk.issue_token(NOW, device="pi-1")
    with pytest.raises(EnrolmentError, match="for the device pi-1, not for pi-2"):
        desk.submit(token, "pi-2", KEYS[0].request_pem, NOW)


@pytest.mark.parametrize("name", ["", "coordinator", "a/b", "x" * 65, "pi 1"])
def test_a_name_that_cannot_stand_in_a_topic_is_refused(desk: Desk, name: str) -> None:
    with pytest.raises(EnrolmentError, match="letters"):
        desk.submit(desk.issue_token(NOW), name, KEYS[0].request_pem, NOW)
    with pytest.raises(ConfigError, match="letters"):
        desk.issue_token(NOW, device=name)


def test_a_taken_name_is_refused_and_the_token_can_be_used_for_another(desk: Desk) -> None:
    join(desk)
    token = desk.issue_token(NOW)
    with pytest.raises(EnrolmentError, match="token for it") as refused:
        desk.submit(token, "pi-1", KEYS[1].request_pem, NOW)
    assert refused.value.status == 409
    assert desk.submit(token, "pi-2", KEYS[1].request_pem, NOW).state == "pending"


def test_a_key_from_a_copied_image_is_refused(desk: Desk) -> None:
    join(desk, "pi-1", KEYS[0])
    with pytest.raises(EnrolmentError, match="one image"):
        desk.submit(desk.issue_token(NOW), "pi-2", KEYS[0].request_pem, NOW)


def test_of_two_requests_with_one_key_the_approved_one_has_it(desk: Desk) -> None:
    first, second = (desk.submit(desk.issue_token(NOW), name, KEYS[0].request_pem, NOW) for name in NAMES)
    desk.approve(first.id, NOW)
    with pytest.raises(EnrolmentError, match="one image"):
        desk.approve(second.id, NOW)


def test_a_token_for_a_name_replaces_its_key_and_the_old_one_is_out(desk: Desk, told: Told) -> None:
    old = join(desk, "pi-1", KEYS[0])
    desk.admit(old, NOW)
    new = join(desk, "pi-1", KEYS[1])
    assert told.serials == {old}
    assert told.cut_devices == ["pi-1"]
    with pytest.raises(EnrolmentError, match="revoked"):
        desk.admit(old, NOW)
    assert desk.admit(new, NOW).device == "pi-1"


def test_a_revoked_board_is_out_and_may_join_again(desk: Desk, told: Told) -> None:
    serial = join(desk)
    desk.admit(serial, NOW)
    assert desk.revoke("pi-1", NOW) == Revoked("pi-1", (serial,), "its session was ended")
    assert (told.serials, told.devices, told.cut_devices) == ({serial}, {"pi-1"}, ["pi-1"])
    with pytest.raises(EnrolmentError, match="new token"):
        desk.admit(serial, NOW)
    request = desk.submit(desk.issue_token(NOW), "pi-1", KEYS[1].request_pem, NOW)
    again = serial_in(desk.approve(request.id, NOW).certificate)
    assert desk.admit(again, NOW).device == "pi-1"
    assert (told.serials, told.devices) == ({serial}, set())


def test_a_rejected_board_hears_why_and_cannot_be_approved_any_more(desk: Desk) -> None:
    token = desk.issue_token(NOW)
    request = desk.submit(token, "pi-1", KEYS[0].request_pem, NOW)
    desk.reject(request.id, "the fingerprint is another", NOW)
    again = desk.submit(token, "pi-1", KEYS[0].request_pem, NOW)
    assert (again.state, again.reason) == ("rejected", "the fingerprint is another")
    with pytest.raises(EnrolmentError, match="was rejected"):
        desk.approve(request.id, NOW)


def test_an_approved_board_is_revoked_not_rejected(desk: Desk) -> None:
    request = desk.submit(desk.issue_token(NOW), "pi-1", KEYS[0].request_pem, NOW)
    desk.approve(request.id, NOW)
    with pytest.raises(EnrolmentError, match="revoke"):
        desk.reject(request.id, "", NOW)


def test_of_two_boards_with_one_name_the_approved_one_has_it(desk: Desk) -> None:
    first, second = (desk.submit(desk.issue_token(NOW), "pi-1", key.request_pem, NOW) for key in KEYS[:2])
    desk.approve(second.id, NOW)
    assert desk.find(first.id).state == "rejected"
    assert "another request" in desk.find(first.id).reason


def test_a_preapproved_name_is_in_at_once_and_only_once(desk: Desk) -> None:
    desk.preapprove([Name("pi-1", "")], NOW)
    request = desk.submit(desk.issue_token(NOW), "pi-1", KEYS[0].request_pem, NOW)
    assert request.state == "approved"
    desk.revoke("pi-1", NOW)
    assert desk.submit(desk.issue_token(NOW), "pi-1", KEYS[1].request_pem, NOW).state == "pending"


def test_a_preapproved_key_must_be_that_key(desk: Desk) -> None:
    other = desk.submit(desk.issue_token(NOW), "pi-2", KEYS[1].request_pem, NOW)
    desk.preapprove([Name("pi-1", other.fingerprint)], NOW)
    assert desk.submit(desk.issue_token(NOW), "pi-1", KEYS[0].request_pem, NOW).state == "pending"


def test_a_renewal_keeps_the_old_certificate_until_the_new_one_is_used(desk: Desk, told: Told) -> None:
    old = join(desk)
    pem = desk.renew(desk.admit(old, NOW), KEYS[1].request_pem, NOW)
    assert not desk.admit(old, NOW).replaced
    assert desk.renew(desk.admit(old, NOW), KEYS[1].request_pem, NOW) == pem
    new = desk.admit(serial_in(pem), NOW)
    assert new.replaced
    desk.settle(new, NOW)
    assert (told.serials, told.cut_devices) == ({old}, ["pi-1"])
    with pytest.raises(EnrolmentError, match="revoked"):
        desk.admit(old, NOW)
    assert not desk.admit(serial_in(pem), NOW).replaced


def test_a_renewal_wants_a_new_key(desk: Desk) -> None:
    member = desk.admit(join(desk), NOW)
    with pytest.raises(EnrolmentError, match="new key"):
        desk.renew(member, KEYS[0].request_pem, NOW)


def test_a_renewal_that_was_given_up_is_withdrawn_by_the_next(desk: Desk, told: Told) -> None:
    member = desk.admit(join(desk), NOW)
    lost = serial_in(desk.renew(member, KEYS[1].request_pem, NOW))
    desk.renew(member, KEYS[2].request_pem, NOW)
    assert told.serials == {lost}


def test_a_board_renews_in_the_last_third_or_when_it_is_asked_to(desk: Desk) -> None:
    member = desk.admit(join(desk), NOW)
    assert not desk.is_renewal_due(member, NOW + timedelta(days=59))
    assert desk.is_renewal_due(member, NOW + timedelta(days=61))
    desk.rotate("pi-1", NOW + MINUTE)
    assert desk.is_renewal_due(member, NOW + MINUTE)
    pem = desk.renew(member, KEYS[1].request_pem, NOW + 2 * MINUTE)
    assert desk.is_renewal_due(member, NOW + 2 * MINUTE), "the answer may have been lost"
    assert not desk.is_renewal_due(desk.admit(serial_in(pem), NOW + 2 * MINUTE), NOW + 2 * MINUTE)


@pytest.mark.parametrize("later", [0 * MINUTE, MINUTE], ids=["in the same second", "later"])
def test_a_key_from_before_the_order_does_not_fulfil_it(desk: Desk, later: timedelta) -> None:
    member = desk.admit(join(desk), NOW)
    pem = desk.renew(member, KEYS[1].request_pem, NOW)
    desk.rotate("pi-1", NOW + later)
    assert desk.is_renewal_due(desk.admit(serial_in(pem), NOW + later), NOW + later)


def test_a_key_of_the_second_of_the_order_fulfils_it(desk: Desk) -> None:
    member = desk.admit(join(desk), NOW)
    desk.rotate("pi-1", NOW + MINUTE)
    pem = desk.renew(member, KEYS[1].request_pem, NOW + MINUTE)
    assert not desk.is_renewal_due(desk.admit(serial_in(pem), NOW + MINUTE), NOW + MINUTE)


def test_an_ended_certificate_is_refused_with_what_to_do(desk: Desk) -> None:
    serial = join(desk)
    with pytest.raises(EnrolmentError, match="--device pi-1"):
        desk.admit(serial, NOW + timedelta(days=DAYS, seconds=1))


def test_a_revoked_certificate_leaves_the_list_long_after_its_end(desk: Desk, told: Told) -> None:
    serial = join(desk)
    desk.revoke("pi-1", NOW)
    desk.publish(NOW + timedelta(days=DAYS + 29))
    assert told.serials == {serial}
    desk.publish(NOW + timedelta(days=DAYS + 31))
    assert told.serials == set()


def test_the_authority_alone_admits_nobody(desk: Desk) -> None:
    with pytest.raises(EnrolmentError, match="no device's"):
        desk.admit(serial_of(AUTHORITY.client("coordinator", NOW).certificate_pem.decode()), NOW)
    with pytest.raises(EnrolmentError, match="expected a certificate"):
        serial_of("nonsense")


def test_what_is_not_there_is_named(desk: Desk) -> None:
    for act in (lambda: desk.revoke("pi-9", NOW), lambda: desk.rotate("pi-9", NOW), lambda: desk.find("pi-9"),
                lambda: desk.approve("pi-9", NOW)):  # fmt: skip
        with pytest.raises(EnrolmentError, match="pi-9") as refused:
            act()
        assert refused.value.status == 404


def test_a_request_is_found_by_its_device_if_it_is_the_only_one(desk: Desk) -> None:
    first = desk.submit(desk.issue_token(NOW), "pi-1", KEYS[0].request_pem, NOW)
    assert desk.find("pi-1") == first
    desk.submit(desk.issue_token(NOW), "pi-1", KEYS[1].request_pem, NOW)
    with pytest.raises(EnrolmentError, match="several"):
        desk.find("pi-1")


def test_every_decision_is_in_the_audit_trail(desk: Desk) -> None:
    desk.admit(join(desk), NOW)
    desk.rotate("pi-1", NOW)
    desk.revoke("pi-1", NOW)
    trail = [(entry.who, entry.what, entry.subject) for entry in desk.registry.audit()]
    assert trail == [
        ("a test", what, "pi-1") for what in ("token", "requested", "approved", "in use", "rotate", "revoked")
    ]


def test_of_two_boards_with_one_token_at_the_same_time_one_is_taken(tmp_path: Path, told: Told) -> None:
    """Two processes, so to speak: each has its own connection."""
    first = desk_in(tmp_path, told)
    token = first.issue_token(NOW)
    answers: list[Request | EnrolmentError] = []

    def ask(key: BoardKey, name: str) -> None:
        registry = Registry(tmp_path / "enrolment.db")
        try:
            answers.append(replace(first, registry=registry).submit(token, name, key.request_pem, NOW))
        except EnrolmentError as error:
            answers.append(error)
        finally:
            registry.close()

    threads = [threading.Thread(target=ask, args=(key, f"pi-{number}")) for number, key in enumerate(KEYS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Request) for answer in answers) == 1
    assert len(first.registry.requests()) == 1
    first.registry.close()


class Enrolment(RuleBasedStateMachine):
    """Any order of what boards and operators do, beside a model of who holds what."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.told = Told()
        self.desk = desk_in(Path(self.folder.name), self.told)
        self.now = NOW
        self.tokens: list[tuple[str, str | None, datetime]] = []
        self.used: dict[str, tuple[str, int]] = {}
        self.requests: dict[str, tuple[str, int]] = {}
        self.out: set[int] = set()
        self.serials: dict[int, str] = {}

    @initialize()
    def begin(self) -> None:
        self.issue(None)

    @rule(device=st.sampled_from([None, *NAMES]))
    def issue(self, device: str | None) -> None:
        self.tokens.append((self.desk.issue_token(self.now, 15, device), device, self.now + 15 * MINUTE))

    @rule(minutes=st.sampled_from([1, 10, 20]))
    def wait(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule(back=st.integers(1, 3), name=st.sampled_from(NAMES), key=st.sampled_from(range(len(KEYS))))
    def ask(self, back: int, name: str, key: int) -> None:
        token, bound, until = self.tokens[-min(back, len(self.tokens))]
        before = self.desk.registry.devices()
        try:
            request = self.desk.submit(token, name, KEYS[key].request_pem, self.now)
        except EnrolmentError:
            assert self.used.get(token) != (name, key), "the same board was locked out"
            return
        assert bound in (None, name)
        if token in self.used:
            assert self.used[token] == (name, key)
        else:
            assert self.now < until
            holder = next((one for one in before if one.name == name and not one.revoked), None)
            assert holder is None or bound == name or holder.fingerprint == request.fingerprint
        self.used[token] = (name, key)
        assert self.requests.setdefault(request.id, (name, key)) == (name, key)

    @rule(data=st.data(), verdict=st.booleans())
    def decide(self, data: st.DataObject, verdict: bool) -> None:
        if not self.requests:
            return
        self.decide_on(data.draw(st.sampled_from(list(self.requests))), verdict=verdict)

    def decide_on(self, number: str, *, verdict: bool) -> None:
        before = self.desk.find(number).state
        try:
            after = self.desk.approve(number, self.now) if verdict else self.desk.reject(number, "no", self.now)
        except EnrolmentError as error:
            assert before == ("rejected" if verdict else "approved") or (verdict and "one image" in str(error))
            return
        if after.certificate is not None:
            self.serials[serial_in(after.certificate)] = after.device

    @rule(name=st.sampled_from(NAMES), key=st.sampled_from(range(len(KEYS))))
    def join(self, name: str, key: int) -> None:
        """The short way: where nothing speaks against it, the board is in."""
        self.issue(name)
        token = self.tokens[-1][0]
        try:
            request = self.desk.submit(token, name, KEYS[key].request_pem, self.now)
        except EnrolmentError:
            return
        self.used[token] = self.requests[request.id] = (name, key)
        self.decide_on(request.id, verdict=True)
        self.issue(None)

    @rule(name=st.sampled_from(NAMES))
    def revoke(self, name: str) -> None:
        try:
            self.out |= set(self.desk.revoke(name, self.now).serials)
        except EnrolmentError:
            assert name not in self.serials.values()
            return
        assert self.told.cut_devices[-1] == name

    @rule(data=st.data(), key=st.sampled_from(range(len(KEYS))))
    def come(self, data: st.DataObject, key: int) -> None:
        """A board shows one of its certificates, and perhaps renews it."""
        if not self.serials:
            return
        serial = data.draw(st.sampled_from(list(self.serials)))
        try:
            member = self.desk.admit(serial, self.now)
        except EnrolmentError:
            return
        assert serial not in self.out
        assert member.device == self.serials[serial]
        self.desk.settle(member, self.now)
        try:
            pem = self.desk.renew(member, KEYS[key].request_pem, self.now)
        except EnrolmentError:
            return
        self.serials[serial_in(pem)] = member.device

    @invariant()
    def a_revoked_certificate_stays_revoked_and_the_broker_knows(self) -> None:
        assert self.out <= self.told.serials
        revoked = {int(one.serial, 16) for one in self.desk.registry.certificates() if one.state == "revoked"}
        assert self.told.serials == revoked
        assert self.told.devices == {device.name for device in self.desk.registry.devices() if device.revoked}

    @invariant()
    def a_device_has_one_key_in_use_and_at_most_one_to_come(self) -> None:
        for name in NAMES:
            mine = [one for one in self.desk.registry.certificates() if one.device == name]
            assert len({one.fingerprint for one in mine if one.state == "current"}) <= 1
            assert len([one for one in mine if one.state == "issued"]) <= 1

    @invariant()
    def a_key_belongs_to_one_device(self) -> None:
        owners: dict[str, set[str]] = {}
        for one in self.desk.registry.certificates():
            owners.setdefault(one.fingerprint, set()).add(one.device)
        assert all(len(names) == 1 for names in owners.values())

    def teardown(self) -> None:
        self.desk.registry.close()
        self.folder.cleanup()


TestEnrolment = Enrolment.TestCase
TestEnrolment.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
