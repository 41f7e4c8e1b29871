"""What keeps other sites and other names away from the live page: headers, the host that was asked for, the origin."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.enrolment import http

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_OURS = frozenset({"same-origin", "none"})
MISDIRECTED, FORBIDDEN = 421, 403


class Guard:
    """Answers only those who ask for one of `hosts`: a name that somebody else points at this address is none. What
    changes something must come from a page of ours."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            refusal = http.json({"error": f"this page is not called {host!r}: see hosts in fleet.toml"}, MISDIRECTED)
            await refusal(scope, receive, answer)
        elif scope["method"] not in ("GET", "HEAD") and not _is_ours(headers, host):
            await http.json({"error": "this came from another site"}, FORBIDDEN)(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)


def _is_ours(headers: Headers, host: str) -> bool:
    """By what browsers say of where a request comes from; other clients say nothing."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return False
    return headers.get("sec-fetch-site", "none") in _OURS


def _name(host: str) -> str:
    """Without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
