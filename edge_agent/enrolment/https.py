"""HTTPS as a board speaks it with its gateway: whom it trusts, and what is wrong where there is no answer."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from edge_agent.enrolment import dates
from edge_agent.wire.errors import ConfigError

MOST_REFUSAL_BYTES = 64 * 1024

_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)


def opener(ca: Path, certificate: Path | None = None, key: Path | None = None) -> urllib.request.OpenerDirector:
    """Opens connections to whom the authority `ca` has signed for, and shows them this board's certificate.

    No proxy: the gateway is on the board's own network. No redirection: it has none.

    Raises:
        ConfigError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"cannot use {ca}, {certificate} and {key}: {error}") from error
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirection())
    return urllib.request.build_opener(*handlers)


def said(error: urllib.error.HTTPError) -> str:
    """The words in which a gateway refuses; empty where it gives none."""
    try:
        found = json.loads(error.read(MOST_REFUSAL_BYTES))
    except (ValueError, RecursionError, OSError, http.client.HTTPException):
        return ""
    return str(found.get("error", "")) if isinstance(found, dict) else ""


def reason(error: Exception, ca: Path) -> str:  # noqa: PLR0911 (one line a reason)
    """Why there is no answer, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        clock = f"this board says it is {dates.show(dates.clock_s())}"
        if error.verify_code == _NOT_YET_VALID:
            return f"its certificate is not valid yet; {clock}: set the clock (timedatectl set-ntp true)"
        if error.verify_code == _EXPIRED:
            return f"its certificate has ended; {clock}: set the clock, or have the gateway's certificate renewed"
        if error.verify_code in _OTHER_NAME:
            return "its certificate is for another name or address: use one of `hosts` in the gateway's fleet.toml"
        return f"its certificate is not signed by {ca}: is this the CA of this fleet, and the right gateway?"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason or error}): is it a gateway of rankfleet?"
    if isinstance(error, socket.gaierror):
        return "its name is unknown: check the name, or use an address"
    if isinstance(error, TimeoutError):
        return "no answer in time: check the network and the gateway's firewall"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: does `rankfleet coordinator up` run, and is the port right?"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"the connection failed ({reason}): check the network, and whether the gateway runs"


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        """None makes an error of a redirection."""
