"""TLS to the gateway: contexts from PEM files, and what a refused handshake means to whoever has to mend it."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError
from .link import LOGGER

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_EXPIRED, _NOT_YET_VALID, _REVOKED = 10, 9, 23
_UNKNOWN_SIGNER = (2, 18, 19, 20, 21, 24)
_OTHER_NAME = (62, 64)
_WANT = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

_ALERTS = {
    "CERTIFICATE_EXPIRED": "our certificate has expired: renew it; or the gateway's clock is ahead",
    "CERTIFICATE_REVOKED": "our certificate is revoked: the device has to be enrolled anew",
    "UNKNOWN_CA": "our certificate is of another fleet's authority: enrol the device with this gateway",
    "BAD_CERTIFICATE": "our certificate is not accepted: it is damaged, or not valid yet by the gateway's clock",
    "UNSUPPORTED_CERTIFICATE": "our certificate is not one of a client: give broker.certificate_file the device's own",
    "CERTIFICATE_REQUIRED": "a client certificate is wanted: set broker.certificate_file and broker.key_file",
    "PROTOCOL_VERSION": "no version of TLS that both sides speak: 1.2 or newer is wanted",
    "HANDSHAKE_FAILURE": "nothing that both sides speak, or no client certificate where one is wanted",
}


@dataclass(frozen=True)
class TlsSettings:
    """PEM files: the authority that signed the broker, and our own certificate where the broker asks for one."""

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None


class Context(ssl.SSLContext):
    """One connection's terms of TLS 1.2 or newer. `alert` is what the other side refused the connection with.

    In TLS 1.3 the server looks at our certificate only after our side of the handshake is done, so that its refusal
    comes with the first read.
    """

    alert: ssl.SSLError | None = None


class _Socket(ssl.SSLSocket):
    """Notes an alert in its context before whoever reads takes it for any lost connection."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except _WANT:
            raise
        except ssl.SSLError as error:
            self._note(error)
            raise

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except _WANT:
            raise
        except OSError:  # the other side has closed; what it said before that is still to be read
            with contextlib.suppress(OSError):
                self.recv(1)
            raise

    def _note(self, error: ssl.SSLError) -> None:
        if isinstance(self.context, Context):
            self.context.alert = error


def context(tls: TlsSettings) -> Context:
    """A context with the files as they are now.

    Raises:
        ConfigError: one cannot be read, is no PEM, or the key is not that of the certificate.
    """
    made = Context(ssl.PROTOCOL_TLS_CLIENT)  # which verifies the other side, and its name
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.sslsocket_class = _Socket
    try:
        made.load_verify_locations(tls.ca_file)
        if tls.certificate_file is not None:
            made.load_cert_chain(tls.certificate_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"cannot use the TLS files {_names(tls)}: {error}") from error
    return made


class TlsFiles:
    """The files of a link that stands for months: they are renewed meanwhile, and each connection takes the new ones.

    Raises:
        ConfigError: as `context`.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._last = context(settings)

    def context(self) -> Context:
        """A context with the files as they are now; with those that could be used last where they cannot be."""
        try:
            self._last = context(self._settings)
        except ConfigError as error:
            LOGGER.warning("%s; going on with what was read before", error)
            self._last.alert = None
        return self._last


def refusal(error: ssl.SSLError, address: str) -> str:
    """Why there is no TLS with `address`, for a person: what is wrong with its certificate, or with ours."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{address} is not who it should be: {_verdict(error)}"
    reason = error.reason or ""
    if "ALERT_" in reason:
        alert = reason.partition("ALERT_")[2]
        return f"{address} refuses us: {_ALERTS.get(alert, alert.replace('_', ' ').lower())}"
    if reason == "WRONG_VERSION_NUMBER" or isinstance(error, ssl.SSLEOFError):
        return f"{address} does not speak TLS as expected: check broker.port, and that the broker wants TLS there"
    return f"no TLS with {address}: {error}"


def _verdict(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        advice = "check this clock; if it is right, renew the server's certificate on the gateway"
    elif code == _NOT_YET_VALID:
        advice = "this clock is behind: set it, or wait until a time server has"
    elif code == _REVOKED:
        advice = "make the server a new certificate on the gateway"
    elif code in _UNKNOWN_SIGNER:
        advice = "it was not signed by the authority in broker.ca_file: is that the file of this fleet?"
    elif code in _OTHER_NAME:
        advice = "check broker.host, or add it to the gateway's hosts"
    else:
        advice = "check broker.ca_file"
    return f"{error.verify_message}; {advice}"


def _names(tls: TlsSettings) -> str:
    return ", ".join(str(path) for path in (tls.ca_file, tls.certificate_file, tls.key_file) if path is not None)
