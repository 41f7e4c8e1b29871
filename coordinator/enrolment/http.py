"""What every route of the enrolment service has in common: bodies of bounded size, JSON, errors without tracebacks."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import TypeVar

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_agent.wire.errors import ConfigError, EnrolmentError, RankfleetError
from edge_agent.wire.malformed import MALFORMED

T = TypeVar("T")

BODY_S = 20.0
"""How long a body may take to come."""
LOGGER = logging.getLogger("rankfleet.enrolment")
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class SecurityHeaders:
    """Puts headers on every answer that keep a browser from doing anything with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, answer)


def json(body: object, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def read(request: Request, kind: type[T], most_bytes: int) -> T:
    """The body as a `kind`.

    Raises:
        EnrolmentError: it has more than `most_bytes`, comes too slowly, or is no `kind`.
    """
    return convert(await body_of(request, most_bytes), kind)


async def body_of(request: Request, most_bytes: int) -> bytes:
    """The body as it is.

    Raises:
        EnrolmentError: it has more than `most_bytes`, or comes too slowly.
    """
    try:
        return await asyncio.wait_for(_body(request, most_bytes), BODY_S)
    except asyncio.TimeoutError as error:
        raise EnrolmentError(f"the body did not come within {BODY_S:g} s", 408) from error
    except ClientDisconnect as error:
        raise EnrolmentError("the connection was lost before the body had come") from error


def convert(body: bytes, kind: type[T]) -> T:
    """JSON as a `kind`.

    Raises:
        EnrolmentError: it is none.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except MALFORMED as error:
        raise EnrolmentError(f"the body is not what this address takes: {error}") from error


def address_of(request: Request) -> str:
    """Who asks: an IPv4 address, or the network of an IPv6 one, of which a host has as many as it likes."""
    host = "" if request.client is None else request.client.host
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


async def on_refusal(_request: Request, error: Exception) -> Response:
    """What was asked for is refused: `error` is written for whoever asked."""
    status = error.status if isinstance(error, EnrolmentError) else 400
    return json({"error": str(error)}, status)


async def on_failure(request: Request, error: Exception) -> Response:
    """The gateway cannot do what it should: what is wrong is in its log, and not for the other side."""
    LOGGER.error("%s %s: %s", request.method, request.url.path, error)
    return json({"error": "the gateway cannot answer now: its log says why; try again later"}, 503)


async def on_http_error(_request: Request, error: Exception) -> Response:
    """No such address, or no such method."""
    if not isinstance(error, HTTPException):
        raise error
    answer = json({"error": f"{error.detail}: see docs/gateway.md for the addresses"}, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def on_bug(_request: Request, _error: Exception) -> Response:
    """Something that nobody expected: the server logs it."""
    return json({"error": "internal error of the gateway: its log says more"}, 500)


HANDLERS = {
    EnrolmentError: on_refusal,
    ConfigError: on_refusal,
    RankfleetError: on_failure,
    HTTPException: on_http_error,
    Exception: on_bug,
}


async def _body(request: Request, most_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    pieces, size_bytes = [], 0
    if announced.isdigit() and int(announced[:20]) > most_bytes:
        raise _too_large(most_bytes)
    async for piece in request.stream():
        size_bytes += len(piece)
        if size_bytes > most_bytes:
            raise _too_large(most_bytes)
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(most_bytes: int) -> EnrolmentError:
    return EnrolmentError(f"a body has at most {most_bytes} bytes here", 413)
