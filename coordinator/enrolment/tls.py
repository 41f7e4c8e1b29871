"""An HTTPS server in a thread of this process: uvicorn, which tells the application of the client's certificate. On
loopback it may do without TLS.

TLS checks a client's certificate if there is one: signed by this fleet's authority, for clients, neither ended nor to
come. Whether it is revoked is the application's to ask, at every request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ServerFiles:
    """The server's certificate and key, and the authority of its clients, if it asks them for a certificate; PEM."""

    certificate: Path
    key: Path
    authority: Path | None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, with a client's certificate if it has one and there is an authority to ask for it.

        Raises:
            ConfigError: a file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_NONE if self.authority is None else ssl.CERT_OPTIONAL
        # A session that is taken up again would not have its certificate checked again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.authority is not None:
                context.load_verify_locations(self.authority)
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(str(one) for one in (self.certificate, self.key, self.authority) if one is not None)
            raise ConfigError(f"cannot use {files}: {error}") from error
        return context


@dataclass(frozen=True)
class Called:
    """What a server is called, and the setting of `fleet.toml` that has its port."""

    name: str
    setting: str


ENROLMENT = Called("enrolment service", "enrolment_port")


class HttpsServer:
    """Serves `app` between `start` and `stop`, again and again; without `files` it is plain HTTP. One of the services
    that a gateway watches.
    """

    def __init__(
        self, app: ASGIApp, files: ServerFiles | None, host: str, port: int, called: Called = ENROLMENT
    ) -> None:
        self.name = called.name
        self.host = host
        self._called = called
        self.port = port
        self._app = app
        self._files = files
        self._running: _Running | None = None

    def start(self) -> None:
        """Returns when it listens: on `port`, which the system chooses where it was 0.

        Raises:
            ConfigError: a TLS file cannot be used.
            LinkError: the port cannot be used.
        """
        context = None if self._files is None else self._files.context()
        try:
            listening = _listen(self.host, self.port)
        except OSError as error:
            raise LinkError(
                f"cannot listen on {self.host}:{self.port}: {error.strerror or error}; stop what uses the port, or set "
                f"another {self._called.setting} in fleet.toml"
            ) from error
        self.port = listening.getsockname()[1]
        self._running = _Running(uvicorn.Server(_config(self._app, context)), listening, self.name)
        self._running.start()

    def reload(self) -> None:
        """New connections get the certificate that is in the files now; those that stand go on. Does nothing where it
        does not run or has no files.

        Raises:
            ConfigError: a TLS file cannot be used; everything is as before then.
        """
        if self._files is None:
            return
        self._files.context()
        if self._running is not None:
            self._running.reload(self._files)

    def failed(self) -> str | None:
        """Why it does not serve any more although nobody stopped it; None if it does."""
        return None if self._running is None or self._running.alive else f"it has ended: {self._running.failure}"

    def stop(self) -> None:
        """Lets requests in progress end for some seconds, then closes. Does nothing where it does not run."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()


class _Running:
    """One life of the server, in its thread."""

    def __init__(self, server: uvicorn.Server, listening: socket.socket, name: str) -> None:
        self.failure: BaseException | None = None
        self._server = server
        self._socket = listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self.alive or time.monotonic() > deadline_s:
                self._socket.close()
                raise LinkError(f"the {self._thread.name} did not start: {self.failure}")
            time.sleep(POLL_S)

    def reload(self, files: ServerFiles) -> None:
        """In the server's thread: between certificate and key no handshake may begin."""

        async def load() -> None:
            context = self._server.config.ssl
            assert context is not None
            context.load_cert_chain(files.certificate, files.key)

        if self._loop is not None and self.alive:
            asyncio.run_coroutine_threadsafe(load(), self._loop).result(START_TIMEOUT_S)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(2 * STOP_TIMEOUT_S)
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # uvicorn ends with SystemExit; the supervisor asks `failed`
            self.failure = error

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve([self._socket])


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


def _config(app: ASGIApp, context: ssl.SSLContext | None) -> uvicorn.Config:
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


def everywhere() -> str:
    """The address that stands for every one of this system: with IPv6, where it has that, and IPv4."""
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::", reuse_port=False)
