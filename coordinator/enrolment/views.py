"""What the command line and the service show of a fleet, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Literal

import msgspec

from coordinator.enrolment.registry import Certificate, Registry, Request, RequestState


class RequestView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request as an operator sees it."""

    id: str
    device: str
    fingerprint: str
    state: RequestState
    date: str
    reason: str = ""


class DeviceView(msgspec.Struct, frozen=True):
    """A device as an operator sees it. `not_after` is the end of the certificate that is valid longest; `release` what
    the board said last of what it runs."""

    name: str
    state: Literal["enrolled", "revoked"]
    fingerprint: str
    serials: tuple[str, ...]
    not_after: str
    rotate: bool
    release: Any


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request as its board sees it. `certificate` is PEM."""

    id: str
    fingerprint: str
    state: RequestState
    certificate: str | None = None
    reason: str | None = None


def answer(request: Request) -> Answer:
    """What a board hears of its request."""
    certificate = None if request.certificate is None else request.certificate.decode("ascii")
    return Answer(request.id, request.fingerprint, request.state, certificate, request.reason or None)


def request_view(request: Request) -> RequestView:
    """What an operator sees of a request."""
    return RequestView(
        request.id, request.device, request.fingerprint, request.state, _date(request.date_s), request.reason
    )


def devices(registry: Registry) -> list[DeviceView]:
    """All devices, by name."""
    certificates: dict[str, list[Certificate]] = {}
    for one in registry.certificates():
        certificates.setdefault(one.device, []).append(one)
    reports = registry.reports()
    found = []
    for device in registry.devices():
        report = reports.get(device.name)
        mine: Sequence[Certificate] = certificates.get(device.name, ())
        valid = [one for one in mine if one.state != "revoked"]
        view = DeviceView(
            device.name,
            "revoked" if device.revoked else "enrolled",
            device.fingerprint,
            tuple(one.serial for one in valid or mine),
            _date(max((one.not_after_s for one in mine), default=0)),
            device.rotate_s > 0,
            None if report is None else msgspec.Raw(report.body),
        )
        found.append(view)
    return found


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat()
