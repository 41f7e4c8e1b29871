"""Files of an enrolled device, and a broker that wants them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from coordinator.enrolment.authority import Authority
from edge_agent.wire.settings import BrokerSettings

NOW = datetime(2027, 1, 1, tzinfo=timezone.utc)


def identity(folder: Path, device: str, now: datetime = NOW, days: float = 90.0) -> BrokerSettings:
    """The device's files, made at `now`; the server's lie beside them."""
    authority = Authority.create("f", now)
    pair, server = authority.client(device, now, days), authority.server(["127.0.0.1"], now)
    for name, data in (
        ("ca.pem", authority.certificate_pem), ("device.pem", pair.certificate_pem), ("device.key", pair.key_pem),
        ("server.pem", server.certificate_pem), ("server.key", server.key_pem),
    ):  # fmt: skip
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    return BrokerSettings(
        ca_file=folder / "ca.pem", certificate_file=folder / "device.pem", key_file=folder / "device.key"
    )


def at(days: float) -> float:
    """Seconds of Unix time, so many days after `NOW`."""
    return (NOW + timedelta(days=days)).timestamp()
