"""What a board asks the gateway over HTTPS, and what is wrong where that does not succeed."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edge_agent.enrolment import dates, https
from edge_agent.wire.errors import ConfigError, EnrolmentError

TIMEOUT_S = 30.0
MOST_ANSWER_BYTES = 2**20
FORBIDDEN, NOT_FOUND, CONFLICT, TOO_MANY = 403, 404, 409, 429

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
        return https.opener(self.ca, self.certificate, self.key)

    def _read(self, answer: http.client.HTTPResponse) -> dict[str, Any]:
        date_s = dates.header_s(answer.headers.get("date"))
        if date_s is not None:
            dates.note(self.identity, date_s)
        return _decode(answer.read(MOST_ANSWER_BYTES + 1), self.url)

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        said = https.said(error) or f"HTTP status {error.code}: is it a gateway of rankfleet?"
        raise EnrolmentError(f"the gateway {self.url} refuses: {said}", error.code) from error

    def _unreachable(self, error: Exception) -> EnrolmentError:
        if self.certificate is not None and isinstance(error, _CLOSED) and self._serves_others():
            return EnrolmentError(
                f"the gateway {self.url} does not take this board's certificate: it has ended, or is another fleet's. "
                "Join again, with a token that was made for it (rankfleet coordinator token FOLDER --device NAME)",
                FORBIDDEN,
            )
        return EnrolmentError(f"the gateway {self.url}: {https.reason(error, self.ca)}", 0)

    def _serves_others(self) -> bool:
        """Whether it answers who shows no certificate. One that it does not take ends the connection wordlessly."""
        try:
            Gateway(self.url, self.ca, self.identity).ask(_NO_REQUEST)
        except EnrolmentError as error:
            return error.status == NOT_FOUND
        return False


_CLOSED = (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError)
"""What a connection ends with that the gateway does not want."""


def _decode(data: bytes, url: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EnrolmentError(f"{url} does not answer as a gateway does: is the address right?", 0) from error
    if not isinstance(found, dict):
        raise EnrolmentError(f"{url} does not answer as a gateway does: is the address right?", 0)
    return found
