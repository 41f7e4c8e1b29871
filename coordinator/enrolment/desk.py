"""What happens to boards that ask to be let in, and to those that are in: the registry, the authority and the broker
together.

Every decision is one transaction of the registry. The broker is told afterwards, of what the registry says then: should
the process die in between, `publish` at the next start tells it.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from coordinator.enrolment import joining
from coordinator.enrolment.authority import DEVICE_DAYS, UNREADABLE, Authority, fingerprint_of, read_request
from coordinator.enrolment.registry import Certificate, Change, Device, Entry, Registry, Report, Request, Token
from edge_agent.wire import topics
from edge_agent.wire.errors import ConfigError, EnrolmentError

TOKEN_MINUTES = 15.0
TOKEN_BYTES = 20
REQUEST_ID_BYTES = 8
KEEP_TOKENS_S = 7 * 86400
"""How long a token is remembered after it ran out, so that the board that used it may ask again."""
CLOCKS_S = 30 * 86400
"""A revoked certificate stays on the list for so long after its end: some clock may be behind."""


@dataclass(frozen=True)
class Withdrawn:
    """Serial numbers of the certificates that are revoked, and the devices that are shut out altogether."""

    serials: frozenset[int]
    devices: frozenset[str]


class Broker(Protocol):
    """What is told of certificates that are withdrawn. `current` says which: it is asked when nobody else tells the
    broker anything, so that what is written last is the newest."""

    def reload(self, current: Callable[[], Withdrawn]) -> None:
        """From now on refuses exactly these certificates."""

    def cut(self, device: str, current: Callable[[], Withdrawn]) -> str:
        """Refuses these certificates and ends the session of the device; says what became of it."""


@dataclass(frozen=True)
class Member:
    """A board that showed a valid certificate; `replaced` if this was the first use, which withdrew its former one."""

    device: str
    certificate: Certificate
    replaced: bool


@dataclass(frozen=True)
class Revoked:
    """A device that was put out: the serial numbers of its certificates, and what became of its session."""

    device: str
    serials: tuple[int, ...]
    session: str


class Effect(enum.Enum):
    """What of an approval the broker has to hear."""

    NONE = "nothing"
    LISTS = "a device that was shut out is back"
    SESSION = "certificates that may be in use are revoked"


@dataclass(frozen=True)
class Desk:
    """`who` stands in the audit trail. `now` is given to every method that looks at a date: UTC, with its zone."""

    registry: Registry
    authority: Authority
    broker: Broker
    who: str
    device_days: float = DEVICE_DAYS

    def issue_token(self, now: datetime, valid_min: float = TOKEN_MINUTES, device: str | None = None) -> str:
        """A new token, for any name or for `device` only, which may then come with another key than before.

        Raises:
            ConfigError: no name.
        """
        if device is not None:
            topics.check_name(device, "device")
        text, now_s = secrets.token_hex(TOKEN_BYTES), _seconds(now)
        with self.registry.change() as change:
            change.drop_tokens(now_s - KEEP_TOKENS_S)
            change.put_token(Token(joining.digest_of(text), device, now_s + round(60 * valid_min), None))
            self._note(change, now, "token", device or "any device", f"valid for {valid_min:g} min")
        return text

    def submit(self, token_text: str, device: str, request_pem: bytes, now: datetime) -> Request:
        """A board asks to be let in under the name `device`; approved at once where the name is on the list.

        Raises:
            EnrolmentError: the token, the name or the request is not accepted. The token is then as it was before.
        """
        if not topics.is_name(device):
            raise EnrolmentError("a device's name has 1 to 64 letters, digits, '.', '_' or '-'")
        fingerprint = fingerprint_of(read_request(request_pem))
        with self.registry.change() as change:
            token = joining.find_token(change.tokens(), token_text)
            used_by = None if token.request is None else change.request(token.request)
            again = joining.repeated(token, used_by, device, fingerprint)
            if again is not None:
                return again
            joining.check_unused(token, _seconds(now))
            joining.check_key(device, change.device_with(fingerprint))
            joining.check_name(token, device, fingerprint, change.device(device))
            request, effect = self._take(change, device, request_pem, fingerprint, now)
            change.put_token(token._replace(request=request.id))
        self._tell(effect, device, now)
        return request

    def approve(self, number: str, now: datetime) -> Request:
        """Lets a board in: issues its certificate. Approved again, nothing changes.

        Raises:
            EnrolmentError: there is no such request, it was rejected, or another device has its key.
        """
        with self.registry.change() as change:
            request = _known(change, number)
            if request.state == "approved":
                return request
            if request.state == "rejected":
                raise EnrolmentError(
                    f"request {number} of {request.device} was rejected: have the board join again, with a new token",
                    joining.CONFLICT,
                )
            joining.check_key(request.device, change.device_with(request.fingerprint))
            request, effect = self._approve(change, request, now)
        self._tell(effect, request.device, now)
        return request

    def reject(self, number: str, reason: str, now: datetime) -> Request:
        """Refuses a board; it is told the reason.

        Raises:
            EnrolmentError: there is no such request, or it was approved.
        """
        with self.registry.change() as change:
            request = _known(change, number)
            if request.state == "approved":
                raise EnrolmentError(
                    f"request {number} of {request.device} was approved: revoke the device instead", joining.CONFLICT
                )
            return self._reject(change, request, reason, now)

    def preapprove(self, names: Iterable[joining.Name], now: datetime) -> None:
        """Approves these names beforehand, each for one request; a token is needed all the same."""
        with self.registry.change() as change:
            for name in names:
                change.put_preapproved(name.device, name.fingerprint)
                self._note(change, now, "preapproved", name.device, name.fingerprint)

    def admit(self, serial: int, now: datetime) -> Member:
        """Who it is that shows the certificate with this serial number. The first use of a new one withdraws those
        that it replaces; where `replaced` says so, `publish` is due.

        Raises:
            EnrolmentError: it is none of this fleet's devices, revoked, or has ended.
        """
        now_s = _seconds(now)
        with self.registry.change() as change:
            found = change.certificate(_hexadecimal(serial))
            device = None if found is None else change.device(found.device)
            if found is None or device is None:
                raise EnrolmentError("this certificate is no device's of this fleet", joining.FORBIDDEN)
            if device.revoked or found.state == "revoked":
                raise EnrolmentError(
                    f"the certificate of {device.name} is revoked: join again with a new token", joining.FORBIDDEN
                )
            if now_s > found.not_after_s:
                raise EnrolmentError(
                    f"the certificate of {device.name} has ended: join again with a token that was made for it "
                    f"(rankfleet coordinator token FOLDER --device {device.name})",
                    joining.FORBIDDEN,
                )
            if found.state == "current":
                return Member(device.name, found, replaced=False)
            return self._use(change, device, found, now)

    def renew(self, member: Member, request_pem: bytes, now: datetime) -> bytes:
        """The certificate, PEM, for a new key of `member`; asked again for the same key, the same one. The former
        certificate stays valid until the new one is used.

        Raises:
            EnrolmentError: no request, or its key is not new.
        """
        fingerprint = fingerprint_of(read_request(request_pem))
        with self.registry.change() as change:
            certificates = change.certificates_of(member.device)
            waiting = [one for one in certificates if one.state == "issued"]
            for one in waiting:
                if one.fingerprint == fingerprint:
                    return one.pem
            if change.device_with(fingerprint) is not None:
                raise EnrolmentError("expected a new key for the renewal: make one on the board", joining.CONFLICT)
            for one in waiting:
                change.put_certificate(one._replace(state="revoked"))
            issued = self._issue(change, member.device, request_pem, now)
            self._note(change, now, "renewed", member.device, issued.fingerprint)
        if waiting:
            self.publish(now)
        return issued.pem

    def is_renewal_due(self, member: Member, now: datetime) -> bool:
        """Whether the board should renew now."""
        with self.registry.change() as change:
            device = change.device(member.device)
        one = member.certificate
        rotate_s = 0 if device is None else device.rotate_s
        return joining.is_renewal_due(one.issued_s, one.not_after_s, rotate_s, _seconds(now))

    def revoke(self, name: str, now: datetime) -> Revoked:
        """Puts a device out: its certificates are refused, its session ends. Revoked again, the broker is told again.

        Raises:
            EnrolmentError: there is no such device.
        """
        with self.registry.change() as change:
            device = _member(change, name)
            certificates = change.certificates_of(name)
            for one in certificates:
                change.put_certificate(one._replace(state="revoked"))
            change.put_device(device._replace(revoked=True, rotate_s=0))
            change.drop_preapproved(name)
            self._note(change, now, "revoked", name, f"{len(certificates)} certificates")
        serials = tuple(int(one.serial, 16) for one in certificates)
        return Revoked(name, serials, self.broker.cut(name, lambda: self._withdrawn(now)))

    def rotate(self, name: str, now: datetime) -> None:
        """Has a device get itself a new key when it next asks for orders.

        Raises:
            EnrolmentError: there is no such device, or it is revoked.
        """
        with self.registry.change() as change:
            device = _member(change, name)
            if device.revoked:
                raise EnrolmentError(f"{name} is revoked: it can only join again", joining.CONFLICT)
            # What is issued in the second of the order fulfils it, unless it was there before and waits to be used.
            waiting = (one.issued_s for one in change.certificates_of(name) if one.state == "issued")
            change.put_device(device._replace(rotate_s=max(_seconds(now), 1 + max(waiting, default=0))))
            self._note(change, now, "rotate", name, "")

    def report(self, member: Member, body: bytes, now: datetime) -> None:
        """Keeps what a board says of its release, JSON."""
        with self.registry.change() as change:
            change.put_report(Report(member.device, _seconds(now), body))

    def find(self, text: str) -> Request:
        """The request with this id, or the only pending one of the device of this name.

        Raises:
            EnrolmentError: there is none, or several.
        """
        request = self.registry.request(text)
        if request is not None:
            return request
        pending = [one for one in self.registry.requests() if one.device == text]
        if len(pending) == 1:
            return pending[0]
        if pending:
            numbers = ", ".join(one.id for one in pending)
            raise EnrolmentError(f"{text} has several requests: say which, {numbers}", joining.CONFLICT)
        raise EnrolmentError(f"no request {text!r}: see rankfleet coordinator requests FOLDER", joining.NOT_FOUND)

    def publish(self, now: datetime) -> None:
        """Tells the broker which certificates are revoked."""
        self.broker.reload(lambda: self._withdrawn(now))

    def settle(self, member: Member, now: datetime) -> None:
        """Withdraws at the broker what `member` has replaced, and has it connect anew."""
        if member.replaced:
            self.broker.cut(member.device, lambda: self._withdrawn(now))

    def _take(
        self, change: Change, device: str, request_pem: bytes, fingerprint: str, now: datetime
    ) -> tuple[Request, Effect]:
        for known in change.requests_of(device):
            if known.state == "pending" and known.fingerprint == fingerprint:
                return known, Effect.NONE
        number = secrets.token_hex(REQUEST_ID_BYTES)
        request = Request(number, device, request_pem, fingerprint, "pending", "", None, _seconds(now))
        change.put_request(request)
        self._note(change, now, "requested", device, fingerprint)
        if change.preapproved(device) in ("", fingerprint):
            change.drop_preapproved(device)
            return self._approve(change, request, now)
        return request, Effect.NONE

    def _approve(self, change: Change, request: Request, now: datetime) -> tuple[Request, Effect]:
        name, fingerprint = request.device, request.fingerprint
        former = change.device(name)
        effect = Effect.LISTS if former is not None and former.revoked else Effect.NONE
        for other in change.requests_of(name):
            if other.id != request.id and other.state == "pending":
                self._reject(change, other, "another request with this name was approved", now)
        for one in change.certificates_of(name):
            if one.state == "issued" or (one.state == "current" and one.fingerprint != fingerprint):
                change.put_certificate(one._replace(state="revoked"))
                effect = Effect.SESSION
        change.put_device(Device(name, fingerprint, revoked=False, rotate_s=0))
        issued = self._issue(change, name, request.pem, now)
        approved = request._replace(state="approved", reason="", certificate=issued.pem)
        change.put_request(approved)
        self._note(change, now, "approved", name, fingerprint)
        return approved, effect

    def _reject(self, change: Change, request: Request, reason: str, now: datetime) -> Request:
        rejected = request._replace(state="rejected", reason=reason)
        change.put_request(rejected)
        self._note(change, now, "rejected", request.device, reason)
        return rejected

    def _issue(self, change: Change, device: str, request_pem: bytes, now: datetime) -> Certificate:
        issued = self.authority.sign(request_pem, device, now, self.device_days)
        one = Certificate(
            _hexadecimal(issued.serial), device, issued.fingerprint, _seconds(now), _seconds(issued.not_after),
            "issued", issued.certificate_pem,
        )  # fmt: skip
        change.put_certificate(one)
        return one

    def _use(self, change: Change, device: Device, found: Certificate, now: datetime) -> Member:
        replaced = False
        for one in change.certificates_of(device.name):
            if one.serial != found.serial and one.state != "revoked":
                change.put_certificate(one._replace(state="revoked"))
                replaced = True
        current = found._replace(state="current")
        change.put_certificate(current)
        rotate_s = 0 if found.issued_s >= device.rotate_s else device.rotate_s
        change.put_device(device._replace(fingerprint=found.fingerprint, rotate_s=rotate_s))
        self._note(change, now, "in use", device.name, found.fingerprint)
        return Member(device.name, current, replaced)

    def _tell(self, effect: Effect, device: str, now: datetime) -> None:
        if effect is Effect.LISTS:
            self.publish(now)
        elif effect is Effect.SESSION:
            self.broker.cut(device, lambda: self._withdrawn(now))

    def _withdrawn(self, now: datetime) -> Withdrawn:
        with self.registry.change() as change:
            serials = change.revoked_serials(_seconds(now) - CLOCKS_S)
        devices = frozenset(device.name for device in self.registry.devices() if device.revoked)
        return Withdrawn(frozenset(int(serial, 16) for serial in serials), devices)

    def _note(self, change: Change, now: datetime, what: str, subject: str, detail: str) -> None:
        change.note(Entry(_seconds(now), self.who, what, subject, detail))


def serial_of(certificate_pem: str) -> int:
    """The serial number of a certificate that TLS has verified.

    Raises:
        EnrolmentError: it is none.
    """
    try:
        return x509.load_pem_x509_certificate(certificate_pem.encode()).serial_number
    except UNREADABLE as error:
        raise EnrolmentError(f"expected a certificate: {error}", joining.FORBIDDEN) from error


def _known(change: Change, number: str) -> Request:
    request = change.request(number)
    if request is None:
        raise EnrolmentError(f"no request {number!r}: see rankfleet coordinator requests FOLDER", joining.NOT_FOUND)
    return request


def _member(change: Change, name: str) -> Device:
    device = change.device(name)
    if device is None:
        raise EnrolmentError(f"no device {name!r}: see rankfleet coordinator devices FOLDER", joining.NOT_FOUND)
    return device


def _seconds(date: datetime) -> int:
    if date.tzinfo is None:
        raise ConfigError(f"expected a date with its zone, got {date}")
    return int(date.timestamp())


def _hexadecimal(serial: int) -> str:
    return f"{serial:x}"
