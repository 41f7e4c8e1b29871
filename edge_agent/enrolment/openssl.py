"""Keys and certificates by the `openssl` command, which every board has: a package for that would be larger than the
agent. Works with OpenSSL 1.1.1 and 3."""

from __future__ import annotations

import base64
import hashlib
import ssl
import subprocess
from pathlib import Path

from edge_agent.wire.errors import EnrolmentError

TIMEOUT_S = 60.0
"""Long, for a board that is starved of processor time."""


def make_key() -> bytes:
    """A new private key on P-256, PEM (PKCS #8)."""
    return _run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-pkeyopt", "ec_param_enc:named_curve")  # fmt: skip


def make_request(key: Path, device: str) -> bytes:
    """A certificate request for `key`, PEM (PKCS #10). The gateway decides about the name itself.

    Raises:
        EnrolmentError: the key cannot be used.
    """
    return _run("req", "-new", "-sha256", "-key", str(key), "-subj", f"/CN={device}")


def key_fingerprint(key: Path) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER) in hexadecimal, as the gateway shows it.

    Raises:
        EnrolmentError: the key cannot be used.
    """
    return hashlib.sha256(_run("pkey", "-in", str(key), "-pubout", "-outform", "DER")).hexdigest()


def certificate_fingerprint(certificate: Path) -> str:
    """That of the key that a certificate is for.

    Raises:
        EnrolmentError: it is no certificate.
    """
    public = _run("x509", "-in", str(certificate), "-noout", "-pubkey")
    body = "".join(line for line in public.decode("ascii").splitlines() if not line.startswith("-"))
    return hashlib.sha256(base64.b64decode(body)).hexdigest()


def certificate_dates(certificate: Path) -> tuple[float, float]:
    """From when and until when a certificate is valid, in seconds since 1970, UTC.

    Raises:
        EnrolmentError: it is no certificate.
    """
    lines = _run("x509", "-in", str(certificate), "-noout", "-startdate", "-enddate").decode().splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    try:
        return float(ssl.cert_time_to_seconds(found["notBefore"])), float(ssl.cert_time_to_seconds(found["notAfter"]))
    except (KeyError, ValueError) as error:
        raise EnrolmentError(f"openssl did not tell the dates of {certificate}: {lines}", 0) from error


def _run(*arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["openssl", *arguments], capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise EnrolmentError("there is no openssl command on this board: sudo apt install openssl", 0) from error
    except subprocess.TimeoutExpired as error:
        raise EnrolmentError(f"openssl {arguments[0]} took more than {TIMEOUT_S:g} s: start it again", 0) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        raise EnrolmentError(f"openssl {arguments[0]} failed: {said[0]}", 0)
    return done.stdout
