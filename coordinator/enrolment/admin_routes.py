"""The routes of the enrolment service for administrators, who show a token (`admin_token.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coordinator.enrolment import http, views
from coordinator.enrolment.desk import TOKEN_MINUTES, Desk
from coordinator.enrolment.parts import Parts, with_desk
from edge_agent.wire.errors import EnrolmentError

MOST_BODY_BYTES = 4 * 1024
MOST_TOKEN_MINUTES = 7 * 24 * 60
WHO = "an administrator over HTTPS"
_SCHEME = "bearer "


class Rejection(msgspec.Struct, frozen=True):
    """Why a board is refused; it is told."""

    reason: Annotated[str, Meta(max_length=1000)] = "refused by an administrator"


class TokenOrder(msgspec.Struct, frozen=True):
    """A token for any name, or for one."""

    device: Annotated[str, Meta(max_length=128)] | None = None
    valid_min: Annotated[float, Meta(gt=0, le=MOST_TOKEN_MINUTES)] = TOKEN_MINUTES


Act = Callable[[Desk, datetime], Any]


class AdminRoutes:
    """Every one of them asks for the token first."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """To be added to the service's own."""
        return [
            Route("/v1/admin/requests", self._requests),
            Route("/v1/admin/requests/{id}/approve", self._approve, methods=["POST"]),
            Route("/v1/admin/requests/{id}/reject", self._reject, methods=["POST"]),
            Route("/v1/admin/devices", self._devices),
            Route("/v1/admin/devices/{name}/revoke", self._revoke, methods=["POST"]),
            Route("/v1/admin/devices/{name}/rotate", self._rotate, methods=["POST"]),
            Route("/v1/admin/tokens", self._tokens, methods=["POST"]),
        ]

    async def _requests(self, request: Request) -> Response:
        self._check(request)
        return await self._do(lambda desk, _now: [views.request_view(one) for one in desk.registry.requests()])

    async def _approve(self, request: Request) -> Response:
        self._check(request)
        number = request.path_params["id"]
        return await self._do(lambda desk, now: views.request_view(desk.approve(number, now)))

    async def _reject(self, request: Request) -> Response:
        self._check(request)
        number, asked = request.path_params["id"], await http.read(request, Rejection, MOST_BODY_BYTES)
        return await self._do(lambda desk, now: views.request_view(desk.reject(number, asked.reason, now)))

    async def _devices(self, request: Request) -> Response:
        self._check(request)
        return await self._do(lambda desk, _now: views.devices(desk.registry))

    async def _revoke(self, request: Request) -> Response:
        self._check(request)
        name = request.path_params["name"]

        def act(desk: Desk, now: datetime) -> dict[str, object]:
            revoked = desk.revoke(name, now)
            serials = [f"{serial:x}" for serial in revoked.serials]
            return {"device": name, "serials": serials, "session": revoked.session}

        return await self._do(act)

    async def _rotate(self, request: Request) -> Response:
        self._check(request)
        name = request.path_params["name"]

        def act(desk: Desk, now: datetime) -> dict[str, str]:
            desk.rotate(name, now)
            return {"device": name}

        return await self._do(act)

    async def _tokens(self, request: Request) -> Response:
        self._check(request)
        asked = await http.read(request, TokenOrder, MOST_BODY_BYTES)

        def act(desk: Desk, now: datetime) -> dict[str, str]:
            token = desk.issue_token(now, asked.valid_min, asked.device)
            return {"token": token, "line": self._parts.line(token, asked.device)}

        return await self._do(act)

    def _check(self, request: Request) -> None:
        shown = request.headers.get("authorization", "")
        if not shown.lower().startswith(_SCHEME) or not self._parts.is_admin(shown[len(_SCHEME) :].strip()):
            raise EnrolmentError("this address is for administrators: Authorization: Bearer TOKEN", 401)

    async def _do(self, act: Act) -> Response:
        work: Awaitable[Any] = with_desk(self._parts, lambda desk, now: act(replace(desk, who=WHO), now))
        return http.json(await work)
