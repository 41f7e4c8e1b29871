"""The fleet's certificate authority (X.509, RFC 5280): elliptic-curve keys on P-256, signatures with SHA-256.

A certificate's common name is the name at the broker: a device's own, or `coordinator`. Boards often start with a
clock that is behind, so everything is valid from a day before it was made.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_agent.wire.errors import ConfigError, EnrolmentError

AUTHORITY_DAYS = 7300
SERVER_DAYS = 825
DEVICE_DAYS = 90
LEAST_RSA_BITS = 2048
MOST_REQUEST_BYTES = 16 * 1024

UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What cryptography raises where a certificate, a request or a key is damaged or of an unknown kind."""
_SKEW = timedelta(days=1)
_HASH = hashes.SHA256()


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate, both PEM."""

    key_pem: bytes
    certificate_pem: bytes


@dataclass(frozen=True)
class Issued:
    """A certificate that the authority signed: PEM, serial number, SHA-256 of the public key, and until when."""

    certificate_pem: bytes
    serial: int
    fingerprint: str
    not_after: datetime


class Authority:
    """Signs for one fleet. `now` is given to every method that puts a date on something: UTC, with its zone."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, fleet: str, now: datetime) -> Authority:
        """A new authority with a key of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"rankfleet {fleet}")])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
        )
        return cls(builder.sign(key, _HASH), key)

    @classmethod
    def load(cls, pair: Pair) -> Authority:
        """The authority of a stored pair.

        Raises:
            ConfigError: it is damaged, or no authority's.
        """
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
            key = load_pem_private_key(pair.key_pem, None)
        except (TypeError, *UNREADABLE) as error:
            raise ConfigError(f"the authority's files are damaged: {error}; restore them from a backup") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError("the authority's key is not that of its certificate: restore both from the same backup")
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        """What devices and the coordinator trust."""
        return self._certificate.public_bytes(Encoding.PEM)

    def pair(self) -> Pair:
        """For storing it; the key is not encrypted."""
        return Pair(_key_pem(self._key), self.certificate_pem)

    def server(self, hosts: Iterable[str], now: datetime) -> Pair:
        """Key and certificate of a server that is reached under these names and addresses.

        Raises:
            ConfigError: no host, or one that is neither a name nor an address.
        """
        names = [_general_name(host) for host in hosts]
        if not names:
            raise ConfigError("expected at least one host name or address under which boards reach the gateway")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._leaf("rankfleet gateway", key.public_key(), now, SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Pair(_key_pem(key), builder.sign(self._key, _HASH).public_bytes(Encoding.PEM))

    def client(self, name: str, now: datetime, days: float = SERVER_DAYS) -> Pair:
        """Key and certificate of a client on the gateway itself; a board makes its own key and sends a request."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Pair(_key_pem(key), self._sign_client(name, key.public_key(), now, days).public_bytes(Encoding.PEM))

    def sign(self, request_pem: bytes, device: str, now: datetime, days: float = DEVICE_DAYS) -> Issued:
        """A client certificate for the key of a PKCS #10 request. Whatever name the request has, the certificate's is
        `device`.

        Raises:
            EnrolmentError: as `read_request`.
        """
        certificate = self._sign_client(device, read_request(request_pem), now, days)
        pem = certificate.public_bytes(Encoding.PEM)
        fingerprint = fingerprint_of(certificate.public_key())
        return Issued(pem, certificate.serial_number, fingerprint, certificate.not_valid_after_utc)

    def revocation_list(self, serials: Iterable[int], now: datetime) -> bytes:
        """PEM of the list of revoked certificates. It never runs out: a broker refuses everybody on an old list."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _SKEW)
            .next_update(now + timedelta(days=AUTHORITY_DAYS))
        )
        for serial in sorted(serials):
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - _SKEW).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, _HASH).public_bytes(Encoding.PEM)

    def _sign_client(
        self, name: str, public_key: CertificatePublicKeyTypes, now: datetime, days: float
    ) -> x509.Certificate:
        return self._leaf(name, public_key, now, days, ExtendedKeyUsageOID.CLIENT_AUTH).sign(self._key, _HASH)

    def _leaf(
        self, name: str, public_key: CertificatePublicKeyTypes, now: datetime, days: float, use: x509.ObjectIdentifier
    ) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            _builder(subject, self._certificate.subject, public_key, now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(issuer_key, critical=False)
        )


def read_request(request_pem: bytes) -> CertificatePublicKeyTypes:
    """The public key of a PKCS #10 request, which was signed with its private key.

    Raises:
        EnrolmentError: no request, one whose signature is wrong, or a key of another kind than elliptic-curve P-256
            or RSA of 2048 bits or more.
    """
    if len(request_pem) > MOST_REQUEST_BYTES:
        raise EnrolmentError(f"a certificate request has at most {MOST_REQUEST_BYTES} bytes, got {len(request_pem)}")
    try:
        request = x509.load_pem_x509_csr(request_pem)
        signed, key = request.is_signature_valid, request.public_key()
    except UNREADABLE as error:
        raise EnrolmentError(f"expected a certificate request in PEM form: {error}") from error
    if not signed:
        raise EnrolmentError("the certificate request is not signed with its own key: make a new one on the board")
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA_BITS:
        return key
    raise EnrolmentError(f"expected a key on P-256, or RSA of {LEAST_RSA_BITS} bits or more: make a new one")


def fingerprint_of(public_key: CertificatePublicKeyTypes) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), in hexadecimal: what a person compares on both sides."""
    digest = hashes.Hash(_HASH)
    digest.update(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: CertificatePublicKeyTypes, now: datetime, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if not host.isascii() or not all(label and label.replace("-", "").isalnum() for label in labels):
        raise ConfigError(f"expected a host name or address, got {host!r}")
    return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
