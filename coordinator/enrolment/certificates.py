"""Whether a certificate that is there can be used, or has to be made anew."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .authority import UNREADABLE, Pair


def unfit(pair: Pair | None, ca: x509.Certificate, hosts: Iterable[str] | None, until: datetime) -> str | None:
    """Why `pair` cannot be used until `until`, for a server under `hosts` where they are given; None if it can."""
    if pair is None:
        return "there was none"
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
        belongs = load_pem_private_key(pair.key_pem, None).public_key() == certificate.public_key()
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, TypeError):
        return "the one that was there was not signed by this authority"
    except UNREADABLE:
        return "the one that was there was damaged"
    reasons = (
        ("did not belong to its key", not belongs),
        (f"ends on {certificate.not_valid_after_utc:%Y-%m-%d}", certificate.not_valid_after_utc < until),
        ("was for other hosts", hosts is not None and names_of(certificate) != frozenset(map(_plain, hosts))),
    )
    return next((f"the one that was there {reason}" for reason, holds in reasons if holds), None)


def names_of(certificate: x509.Certificate) -> frozenset[str]:
    """Host names and addresses that a server's certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    found = (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))
    return frozenset(map(_plain, found))


def _plain(host: str) -> str:
    """Names without their case, addresses in their shortest form."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()
