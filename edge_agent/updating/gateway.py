"""The gateway's enrolment service, as an updater asks it: HTTPS with the device's certificate, by the standard library.

The authority of the fleet is the only one that is trusted; no proxy is used and no redirection followed.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import msgspec

from edge_agent.enrolment import https
from edge_agent.updating.settings import UpdaterConfig
from edge_agent.wire.errors import EnrolmentError, FetchError
from edge_agent.wire.updates import Facts, Orders, UpdateReport, read_orders

ANSWER_S = 60.0
"""Longest silence of the gateway within one answer."""
MOST_ANSWER_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
_FOR_GOOD = (
    http.client.BAD_REQUEST,
    http.client.NOT_FOUND,
    http.client.CONFLICT,
    http.client.REQUEST_ENTITY_TOO_LARGE,
    http.client.UNPROCESSABLE_ENTITY,
)
_LOST = (OSError, http.client.HTTPException)


class RefusedError(EnrolmentError):
    """The gateway answered, and will answer the same again."""


class Gateway:
    """One device's view of it. The certificates are read for each question: a renewal may replace them meanwhile."""

    def __init__(self, config: UpdaterConfig) -> None:
        self._url = config.gateway.url.rstrip("/")
        self._files = config.broker

    def orders(self, facts: Facts) -> Orders:
        """What this board is to do.

        Raises:
            ConfigError: the device's certificates cannot be used.
            EnrolmentError: the gateway cannot be asked, or refuses us (RefusedError).
            ProtocolError: its answer is none.
        """
        query = urllib.parse.urlencode(msgspec.structs.asdict(facts))
        with self._open(urllib.request.Request(f"{self._url}/v1/orders?{query}")) as answer:
            return read_orders(self._body(answer))

    def report(self, report: UpdateReport) -> None:
        """Hands a report over; it returns when the gateway has it. Raises as `orders`."""
        request = urllib.request.Request(
            f"{self._url}/v1/reports", msgspec.json.encode(report), {"Content-Type": "application/json"}, method="POST"
        )
        with self._open(request) as answer:
            self._body(answer)

    def bundle(self, name: str, offset: int) -> Iterator[tuple[int, bytes]]:
        """A bundle's bytes from `offset` on, as (place, chunk); from 0 on where the gateway knows no ranges.

        Raises:
            ConfigError: as `orders`.
            EnrolmentError: the connection was lost, or refused.
            FetchError: the gateway has no such bundle.
        """
        request = urllib.request.Request(f"{self._url}/v1/bundles/{urllib.parse.quote(name)}")
        request.add_header("Range", f"bytes={offset}-")
        with self._open(request) as answer:
            place = offset if answer.status == http.client.PARTIAL_CONTENT else 0
            told = answer.headers.get("Content-Range", f"bytes {place}-")
            if not told.startswith(f"bytes {place}-"):
                raise EnrolmentError(f"{self._url}: asked for bytes from {place} on, got {told!r}: try again")
            while chunk := self._read(answer, CHUNK_BYTES):
                yield place, chunk
                place += len(chunk)

    def _opener(self) -> urllib.request.OpenerDirector:
        return https.opener(self._files.ca_file, self._files.certificate_file, self._files.key_file)

    def _body(self, answer: IO[bytes]) -> bytes:
        data = b""
        while len(data) <= MOST_ANSWER_BYTES and (part := self._read(answer, CHUNK_BYTES)):
            data += part
        if len(data) > MOST_ANSWER_BYTES:
            raise EnrolmentError(f"{self._url}: expected an answer of at most {MOST_ANSWER_BYTES} bytes, got more")
        return data

    def _read(self, answer: IO[bytes], limit_bytes: int) -> bytes:
        try:
            return answer.read(limit_bytes)
        except _LOST as error:
            raise EnrolmentError(f"{self._url}: the connection was lost ({error}); the next run goes on") from error

    @contextmanager
    def _open(self, request: urllib.request.Request) -> Iterator[http.client.HTTPResponse]:
        try:
            answer: http.client.HTTPResponse = self._opener().open(request, timeout=ANSWER_S)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error, request.selector) from error
        except _LOST as error:
            found = getattr(error, "reason", error)
            reason = https.reason(found if isinstance(found, OSError) else error, self._files.ca_file)
            raise EnrolmentError(f"{self._url} cannot be asked: {reason}") from error
        with answer:
            yield answer

    def _refusal(self, error: urllib.error.HTTPError, path: str) -> EnrolmentError | FetchError:
        words = https.said(error)
        said = f"{self._url}{path.partition('?')[0]} answers {error.code}, {words or error.reason}"
        if error.code == http.client.NOT_FOUND and path.startswith("/v1/bundles/"):
            return FetchError(f"{said}: the gateway has no such bundle; put it into the fleet's folder of releases")
        if error.code in _FOR_GOOD:
            return RefusedError(said if words else f"{said}: update the gateway, or this board")
        return EnrolmentError(said if words else f"{said}: try again later")
