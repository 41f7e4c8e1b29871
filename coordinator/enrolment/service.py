"""The enrolment service: what boards and administrators ask the gateway for over HTTPS.

An application (ASGI) that leaves all decisions to the desk. The server in front of it has verified a client's
certificate if there is one (`tls.py`); whether that is still a device's is asked here, at every request.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from coordinator.enrolment import http, views
from coordinator.enrolment.admin_routes import AdminRoutes
from coordinator.enrolment.authority import MOST_REQUEST_BYTES
from coordinator.enrolment.desk import Desk, Member, serial_of
from coordinator.enrolment.pace import Pace
from coordinator.enrolment.parts import Parts, with_desk
from edge_agent.wire.errors import EnrolmentError, RankfleetError

MOST_BODY_BYTES = 2 * MOST_REQUEST_BYTES
MOST_REPORT_BYTES = 8 * 1024
_Word = Annotated[str, Meta(max_length=128)]
_Pem = Annotated[str, Meta(max_length=MOST_REQUEST_BYTES)]


class Submission(msgspec.Struct, frozen=True):
    """A board's wish to be let in; `request` is a PKCS #10 request in PEM form."""

    token: _Word
    device: _Word
    request: _Pem


class Renewal(msgspec.Struct, frozen=True):
    """A device's wish for a certificate for a new key."""

    request: _Pem


class Outcome(msgspec.Struct, frozen=True):
    """What a device says of its release. Whatever else it says is kept as well."""

    version: _Word
    python: _Word
    machine: _Word
    release: _Word
    outcome: _Word
    reason: Annotated[str, Meta(max_length=MOST_REPORT_BYTES)] = ""


def application(parts: Parts) -> Starlette:
    """The service as an ASGI application."""
    boards = _Boards(parts)
    routes = [
        Route("/v1/install.sh", boards.install),
        Route("/v1/requests", boards.submit, methods=["POST"]),
        Route("/v1/requests/{id}", boards.request),
        Route("/v1/bundles", boards.bundles),
        Route("/v1/bundles/{name}", boards.bundle),
        Route("/v1/renewals", boards.renew, methods=["POST"]),
        Route("/v1/orders", boards.orders),
        Route("/v1/reports", boards.report, methods=["POST"]),
        *AdminRoutes(parts).routes(),
    ]
    return Starlette(routes=routes, middleware=[Middleware(http.SecurityHeaders)], exception_handlers=http.HANDLERS)


class _Boards:
    """The routes for boards."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pace = Pace()

    async def install(self, _request: Request) -> Response:
        return Response(self._parts.installer, media_type="text/x-shellscript")

    async def submit(self, request: Request) -> Response:
        wait_s = self._pace.wait_s(http.address_of(request), time.monotonic())
        if wait_s:
            answer = http.json({"error": f"too many requests from this address: wait {wait_s} s"}, 429)
            answer.headers["retry-after"] = str(wait_s)
            return answer
        asked = await http.read(request, Submission, MOST_BODY_BYTES)

        def act(desk: Desk, now: datetime) -> views.Answer:
            return views.answer(desk.submit(asked.token, asked.device, asked.request.encode(), now))

        return http.json(await with_desk(self._parts, act))

    async def request(self, request: Request) -> Response:
        number = request.path_params["id"]

        def act(desk: Desk, _now: datetime) -> views.Answer:
            found = desk.registry.request(number)
            if found is None:
                raise EnrolmentError("this gateway has no such request: join again with a new token", 404)
            return views.answer(found)

        return http.json(await with_desk(self._parts, act))

    async def bundles(self, _request: Request) -> Response:
        return http.json(await run_in_threadpool(self._parts.shelf.bundles))

    async def bundle(self, request: Request) -> Response:
        path = await run_in_threadpool(self._parts.shelf.path, request.path_params["name"])
        return FileResponse(path, media_type="application/x-tar")

    async def renew(self, request: Request) -> Response:
        serial = _serial(request)
        asked = await http.read(request, Renewal, MOST_BODY_BYTES)

        def act(desk: Desk, now: datetime) -> tuple[Member, str]:
            member = desk.admit(serial, now)
            return member, desk.renew(member, asked.request.encode(), now).decode("ascii")

        member, certificate = await with_desk(self._parts, act)
        return self._answer(member, {"certificate": certificate})

    async def orders(self, request: Request) -> Response:
        serial, facts = _serial(request), dict(request.query_params)

        def act(desk: Desk, now: datetime) -> tuple[Member, bool, Any]:
            member = desk.admit(serial, now)
            return member, desk.is_renewal_due(member, now), self._parts.release_for(member.device, facts)

        member, renew, release = await with_desk(self._parts, act)
        return self._answer(member, {"renew": renew, "release": release})

    async def report(self, request: Request) -> Response:
        serial = _serial(request)
        raw = await http.read(request, msgspec.Raw, MOST_REPORT_BYTES)

        def act(desk: Desk, now: datetime) -> Member:
            member = desk.admit(serial, now)
            http.convert(bytes(raw), Outcome)
            desk.report(member, bytes(raw), now)
            self._parts.take_report(member.device, bytes(raw))
            return member

        return self._answer(await with_desk(self._parts, act), {})

    def _answer(self, member: Member, body: object) -> Response:
        """What a new certificate replaced is withdrawn behind the answer: the broker may take seconds."""
        answer = http.json(body)
        if member.replaced:
            answer.background = BackgroundTask(self._settle, member)
        return answer

    def _settle(self, member: Member) -> None:
        try:
            with self._parts.desk() as desk:
                desk.settle(member, self._parts.now())
        except RankfleetError as error:
            http.LOGGER.error("the former certificate of %s is not withdrawn at the broker: %s", member.device, error)


def _serial(request: Request) -> int:
    """Of the certificate that the client showed."""
    chain = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", [])
    if not chain:
        raise EnrolmentError("this address is for the fleet's devices: show the device's certificate", 401)
    return serial_of(chain[0])
