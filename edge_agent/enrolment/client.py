"""What a board asks the gateway over HTTPS, and what is wrong where that does not succeed."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edge_agent.enrolment import dates
from edge_agent.wire.errors import ConfigError, EnrolmentError

TIMEOUT_S = 30.0
MOST_ANSWER_BYTES = 2**20
FORBIDDEN, NOT_FOUND, CONFLICT, TOO_MANY = 403, 404, 409, 429

_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)
_NO_REQUEST = "/v1/requests/0"


@dataclass(frozen=True)
class Gateway:
    """The enrolment service at `url`, whose certificate `ca` must have signed; `pair` is this board's key and
    certificate, where it has them. The date of every answer is noted in the folder `identity`."""

    url: str
    ca: Path
    identity: Path
    certificate: Path | None = None
    key: Path | None = None

    def ask(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The answer, JSON, to a POST of `body`, or to a GET.

        Raises:
            EnrolmentError: the gateway cannot be reached, is not the right one, or refuses; says what to do.
            ConfigError: a TLS file cannot be used.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"content-type": "application/json"}
        opener = self._opener()
        request = urllib.request.Request(f"{self.url.rstrip('/')}{path}", data, headers)
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                return self._read(answer)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        except urllib.error.URLError as error:
            reason = error.reason if isinstance(error.reason, OSError) else error
            raise self._unreachable(reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _opener(self) -> urllib.request.OpenerDirector:
        if not self.url.startswith("https://"):
            raise ConfigError(f"expected the gateway's URL as https://HOST:PORT, got {self.url!r}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"cannot use {self.ca}, {self.certificate} and {self.key}: {error}") from error
        # No proxy: the gateway is on the board's own network. No redirection: it has none.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirection())
        return urllib.request.build_opener(*handlers)

    def _read(self, answer: http.client.HTTPResponse) -> dict[str, Any]:
        date_s = dates.header_s(answer.headers.get("date"))
        if date_s is not None:
            dates.note(self.identity, date_s)
        return _decode(answer.read(MOST_ANSWER_BYTES + 1), self.url)

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        try:
            said = str(_decode(error.read(MOST_ANSWER_BYTES), self.url)["error"])
        except (EnrolmentError, KeyError, OSError, http.client.HTTPException):
            said = f"HTTP status {error.code}: is it a gateway of rankfleet?"
        raise EnrolmentError(f"the gateway {self.url} refuses: {said}", error.code) from error

    def _unreachable(self, error: Exception) -> EnrolmentError:
        if self.certificate is not None and isinstance(error, _CLOSED) and self._serves_others():
            return EnrolmentError(
                f"the gateway {self.url} does not take this board's certificate: it has ended, or is another fleet's. "
                "Join again, with a token that was made for it (rankfleet coordinator token FOLDER --device NAME)",
                FORBIDDEN,
            )
        return EnrolmentError(f"the gateway {self.url}: {self._reason(error)}", 0)

    def _serves_others(self) -> bool:
        """Whether it answers who shows no certificate. One that it does not take ends the connection wordlessly."""
        try:
            Gateway(self.url, self.ca, self.identity).ask(_NO_REQUEST)
        except EnrolmentError as error:
            return error.status == NOT_FOUND
        return False

    def _reason(self, error: Exception) -> str:  # noqa: PLR0911 (one line a reason)
        if isinstance(error, ssl.SSLCertVerificationError):
            clock = f"this board says it is {dates.show(dates.clock_s())}"
            if error.verify_code == _NOT_YET_VALID:
                return f"its certificate is not valid yet; {clock}: set the clock (timedatectl set-ntp true)"
            if error.verify_code == _EXPIRED:
                return f"its certificate has ended; {clock}: set the clock, or have the gateway's certificate renewed"
            if error.verify_code in _OTHER_NAME:
                return "its certificate is for another name or address: use one of `hosts` in the gateway's fleet.toml"
            return f"its certificate is not signed by {self.ca}: is this the CA of this fleet, and the right gateway?"
        if isinstance(error, ssl.SSLError):
            return f"no TLS connection ({error.reason or error}): is it a gateway of rankfleet?"
        if isinstance(error, socket.gaierror):
            return "its name is unknown: check the name, or use an address"
        if isinstance(error, TimeoutError):
            return f"no answer within {TIMEOUT_S:g} s: check the network and the gateway's firewall"
        if isinstance(error, ConnectionRefusedError):
            return "nothing listens there: does `rankfleet coordinator up` run, and is the port right?"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return f"the connection failed ({reason}): check the network, and whether the gateway runs"


_CLOSED = (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError)
"""What a connection ends with that the gateway does not want."""


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def _decode(data: bytes, url: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EnrolmentError(f"{url} does not answer as a gateway does: is the address right?", 0) from error
    if not isinstance(found, dict):
        raise EnrolmentError(f"{url} does not answer as a gateway does: is the address right?", 0)
    return found
