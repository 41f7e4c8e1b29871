"""What the authority signs, and what it refuses to sign; OpenSSL judges the certificates."""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from coordinator.enrolment.authority import (
    AUTHORITY_DAYS,
    MOST_REQUEST_BYTES,
    Authority,
    Pair,
    fingerprint_of,
    read_request,
)
from edge_agent.wire.errors import ConfigError, EnrolmentError
from tests.certificates import HOST, NOW, store

AUTHORITY = Authority.create("depot", NOW)


def request(key: CertificateIssuerPrivateKeyTypes, name: str = "anything") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm).public_bytes(Encoding.PEM)


def openssl(folder: Path, certificate: bytes, purpose: str, at: datetime = NOW, *more: str) -> str:
    """What `openssl verify` says: "OK", or why not."""
    if shutil.which("openssl") is None:
        pytest.skip("NO OPENSSL, so certificates are NOT checked by another program: sudo apt install openssl")
    (folder / "ca.pem").write_bytes(AUTHORITY.certificate_pem)
    (folder / "leaf.pem").write_bytes(certificate)
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(int(at.timestamp())),
         "-CAfile", str(folder / "ca.pem"), *more, str(folder / "leaf.pem")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "OK" if done.returncode == 0 else done.stderr


def test_openssl_takes_each_certificate_for_its_own_purpose_only(tmp_path: Path) -> None:
    server = AUTHORITY.server((HOST, "gateway.local"), NOW).certificate_pem
    client = AUTHORITY.client("coordinator", NOW).certificate_pem
    assert openssl(tmp_path, server, "sslserver") == openssl(tmp_path, client, "sslclient") == "OK"
    assert "unsuitable certificate purpose" in openssl(tmp_path, server, "sslclient").replace(
        "unsupported", "unsuitable"
    )
    assert openssl(tmp_path, client, "sslserver") != "OK"


def test_a_device_may_not_sign_for_others(tmp_path: Path) -> None:
    device = Authority.load(AUTHORITY.pair()).client("pi-1", NOW)
    forged = Authority(
        x509.load_pem_x509_certificate(device.certificate_pem), Authority.load(AUTHORITY.pair())._key
    ).client("pi-2", NOW)
    assert openssl(tmp_path, forged.certificate_pem, "sslclient") != "OK"


def test_a_board_whose_clock_is_a_day_behind_can_join(tmp_path: Path) -> None:
    device = AUTHORITY.client("pi-1", NOW, days=90).certificate_pem
    assert openssl(tmp_path, device, "sslclient", NOW - timedelta(hours=23)) == "OK"
    assert "not yet valid" in openssl(tmp_path, device, "sslclient", NOW - timedelta(hours=25))
    assert openssl(tmp_path, device, "sslclient", NOW + timedelta(days=89)) == "OK"
    assert "expired" in openssl(tmp_path, device, "sslclient", NOW + timedelta(days=91))


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "RSA 2048"],
)
def test_a_request_gets_the_name_that_it_was_given_not_the_one_that_it_has(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    issued = AUTHORITY.sign(request(key, "coordinator"), "pi-1", NOW, days=90)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    assert certificate.subject.rfc4514_string() == "CN=pi-1"
    assert certificate.public_key() == key.public_key()
    assert issued.serial == certificate.serial_number
    assert issued.not_after == certificate.not_valid_after_utc
    assert issued.fingerprint == fingerprint_of(key.public_key()) and len(issued.fingerprint) == 64
    assert openssl(tmp_path, issued.certificate_pem, "sslclient") == "OK"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 1024),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-384", "RSA 1024", "Ed25519"],
)
def test_keys_of_other_kinds_are_refused(key: CertificateIssuerPrivateKeyTypes) -> None:
    with pytest.raises(EnrolmentError, match=r"expected a key on P-256, or RSA"):
        read_request(request(key))


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    whole = x509.load_pem_x509_csr(request(ec.generate_private_key(ec.SECP256R1()))).public_bytes(Encoding.DER)
    other = x509.load_pem_x509_csr(request(ec.generate_private_key(ec.SECP256R1()))).public_bytes(Encoding.DER)
    mixed = bytearray(whole)
    at = whole.index(b"\x03\x42\x00\x04") + 4  # the key's point, as a bit string
    mixed[at : at + 64] = other[other.index(b"\x03\x42\x00\x04") + 4 :][:64]
    pem = (
        b"-----BEGIN CERTIFICATE REQUEST-----\n"
        + base64.encodebytes(bytes(mixed))
        + b"-----END CERTIFICATE REQUEST-----\n"
    )
    with pytest.raises(EnrolmentError, match="not signed with its own key"):
        read_request(pem)


@pytest.mark.parametrize("pem", [b"", b"no request", b"x" * (MOST_REQUEST_BYTES + 1)], ids=["empty", "text", "long"])
def test_what_is_no_request_is_refused(pem: bytes) -> None:
    with pytest.raises(EnrolmentError):
        read_request(pem)


def of_version(pem: bytes, version: int) -> bytes:
    """The same request or certificate, with another version, which is its first number."""
    head, *lines, foot = pem.splitlines(keepends=True)
    der = base64.b64decode(b"".join(lines))
    at = der.index(b"\x02\x01") + 2
    return head + base64.encodebytes(der[:at] + bytes([version]) + der[at + 1 :]) + foot


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(EnrolmentError, match="64 is not a valid CSR version"):
        read_request(of_version(request(ec.generate_private_key(ec.SECP256R1())), 64))
    pair = AUTHORITY.pair()
    with pytest.raises(ConfigError, match="64 is not a valid X509 version"):
        Authority.load(replace(pair, certificate_pem=of_version(pair.certificate_pem, 64)))


def test_a_revoked_certificate_is_refused_as_long_as_the_authority_lives(tmp_path: Path) -> None:
    kept, gone = (AUTHORITY.client(name, NOW) for name in ("pi-1", "pi-2"))
    serial = x509.load_pem_x509_certificate(gone.certificate_pem).serial_number
    (tmp_path / "crl").write_bytes(AUTHORITY.revocation_list([serial], NOW))
    terms = ("-crl_check", "-CRLfile", str(tmp_path / "crl"))
    assert openssl(tmp_path, kept.certificate_pem, "sslclient", NOW, *terms) == "OK"
    assert "revoked" in openssl(tmp_path, gone.certificate_pem, "sslclient", NOW, *terms)
    much_later = x509.load_pem_x509_crl((tmp_path / "crl").read_bytes()).next_update_utc
    assert much_later is not None and much_later >= NOW + timedelta(days=AUTHORITY_DAYS - 1)


def test_an_authority_is_the_same_after_it_was_stored() -> None:
    again = Authority.load(AUTHORITY.pair())
    assert again.certificate_pem == AUTHORITY.certificate_pem
    assert again.pair() == AUTHORITY.pair()


@pytest.mark.parametrize("wrong", ["key of another", "no key", "no certificate"])
def test_a_damaged_authority_says_so(wrong: str) -> None:
    pair, other = AUTHORITY.pair(), Authority.create("depot", NOW).pair()
    damaged = {
        "key of another": Pair(other.key_pem, pair.certificate_pem),
        "no key": Pair(b"", pair.certificate_pem),
        "no certificate": Pair(pair.key_pem, b"junk"),
    }[wrong]
    with pytest.raises(ConfigError, match="restore"):
        Authority.load(damaged)


@pytest.mark.parametrize("hosts", [(), ("",), ("a b",), ("gäteway",), ("-..",)])
def test_hosts_that_cannot_be_are_refused(hosts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        AUTHORITY.server(hosts, NOW)


@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_python_takes_the_server_under_its_names_even_strictly(tmp_path: Path, host: str) -> None:
    certificate, key = store(tmp_path, "server", AUTHORITY.server((HOST, "localhost"), NOW))
    terms = ssl.create_default_context(cadata=AUTHORITY.certificate_pem.decode())
    terms.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server((HOST, 0)) as listener:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(certificate, key)
        server = threading.Thread(target=lambda: own.wrap_socket(listener.accept()[0], server_side=True).close())
        server.start()
        with (
            socket.create_connection(listener.getsockname()) as raw,
            terms.wrap_socket(raw, server_hostname=host) as it,
        ):
            assert it.version() == "TLSv1.3"
        server.join()
