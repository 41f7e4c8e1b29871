"""An HTTPS server in a thread of this process: uvicorn, which tells the application of the client's certificate.

TLS checks a client's certificate if there is one: signed by this fleet's authority, for clients, neither ended nor to
come. Whether it is revoked is the application's to ask, at every request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_agent.wire.errors import ConfigError, LinkError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5
FIRST_REQUEST_S = 20.0
"""How long a connection may take to send the head of its first request."""
KEEP_ALIVE_S = 15
MOST_CONNECTIONS = 512
MOST_HEADER_BYTES = 16 * 1024
POLL_S = 0.02


def server_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer, with a client's certificate if it has one.

    Raises:
        ConfigError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    # A session that is taken up again would not have its certificate checked again.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authority)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"cannot use {certificate}, {key} and {authority}: {error}") from error
    return context


class HttpsServer:
    """Serves `app` between `start` and `stop`.

    Raises:
        ConfigError: as `server_context`.
    """

    def __init__(self, app: ASGIApp, context: ssl.SSLContext, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._server = uvicorn.Server(_config(app, context))
        self._socket: socket.socket | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="enrolment-service", daemon=True)

    def start(self) -> int:
        """Starts to listen and returns the port, which the system chooses where it was 0.

        Raises:
            LinkError: the port cannot be used.
        """
        try:
            self._socket = _listen(self.host, self.port)
        except OSError as error:
            raise LinkError(f"cannot listen on {self.host}:{self.port}: {error.strerror or error}") from error
        self.port = self._socket.getsockname()[1]
        self._thread.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                raise LinkError(f"the service on {self.host}:{self.port} did not start: {self._failure}")
            time.sleep(POLL_S)
        return self.port

    @property
    def failed(self) -> str | None:
        """Why it does not serve any more although nobody stopped it; None if it does."""
        if self._thread.is_alive() or self._server.should_exit or self._socket is None:
            return None
        return f"the service on {self.host}:{self.port} has ended: {self._failure}"

    def stop(self) -> None:
        """Lets requests in progress end for some seconds, then closes; may be called twice."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * STOP_TIMEOUT_S)
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        assert self._socket is not None
        try:
            asyncio.run(self._server.serve([self._socket]))
        except BaseException as error:  # uvicorn ends with SystemExit; the supervisor asks `failed`
            self._failure = error


class _Protocol(H11Protocol):
    """Tells the application of the client's certificate (the ASGI extension `tls`), and waits for nobody for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        found = None if tls is None else tls.getpeercert(binary_form=True)
        chain = [] if found is None else [ssl.DER_cert_to_PEM_cert(found)]
        self.app = _with_certificate(self.app, chain)
        self.loop.call_later(FIRST_REQUEST_S, self._expect_request)

    def _expect_request(self) -> None:
        if self.cycle is None:
            self.transport.close()


def _with_certificate(app: Any, chain: list[str]) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})["tls"] = {"client_cert_chain": chain}
        await app(scope, receive, send)

    return serve


def _config(app: ASGIApp, context: ssl.SSLContext) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    config.load()
    config.ssl = context
    return config


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::", reuse_port=False)
