"""A fleet's desk for tests: authority, registry, and a broker that writes down what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from coordinator.enrolment.authority import Authority
from coordinator.enrolment.desk import Desk, Withdrawn
from coordinator.enrolment.registry import Registry

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
DAYS = 90.0
AUTHORITY = Authority.create("site", NOW)


@dataclass
class Told:
    """What the broker was told: the list as it is now, and whose sessions ended."""

    serials: frozenset[int] = frozenset()
    devices: frozenset[str] = frozenset()
    cut_devices: list[str] = field(default_factory=list)

    def reload(self, current: Callable[[], Withdrawn]) -> None:
        withdrawn = current()
        self.serials, self.devices = withdrawn.serials, withdrawn.devices

    def cut(self, device: str, current: Callable[[], Withdrawn]) -> str:
        self.reload(current)
        self.cut_devices.append(device)
        return "its session was ended"


@dataclass(frozen=True)
class BoardKey:
    key_pem: bytes
    request_pem: bytes

    @classmethod
    def make(cls) -> BoardKey:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whoever")])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls(key_pem, request.public_bytes(Encoding.PEM))


def desk_in(folder: Path, told: Told) -> Desk:
    return Desk(Registry(folder / "enrolment.db"), AUTHORITY, told, "a test", DAYS)


def serial_in(certificate_pem: bytes | None) -> int:
    assert certificate_pem is not None
    return x509.load_pem_x509_certificate(certificate_pem).serial_number
