from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.doctor.certificates import certificates
from edge_agent.wire.settings import BrokerSettings
from tests.edge_agent.doctor.certs import at, identity


@pytest.mark.parametrize(
    ("day", "bound_day", "level", "words"),
    [
        (1, -99, "ok", "valid until 01 April 2027"),
        (80, -99, "warning", "device.pem first"),
        (91, -99, "failure", "was valid until 01 April 2027"),
        (-400, -400, "failure", "is valid from 31 December 2026"),
        (-400, 1, "ok", "valid until"),
        (-400, 91, "failure", "was valid until"),
    ],
)
def test_dates_are_judged_by_the_clock_or_by_what_it_must_be_at_least(
    tmp_path: Path, day: float, bound_day: float, level: str, words: str
) -> None:
    found = certificates(identity(tmp_path, "pi-1"), at(day), at(bound_day))
    assert found.level == level and words in found.found, found
    assert bool(found.remedy) is (level != "ok")


def test_without_certificates_the_connection_is_open_to_all() -> None:
    found = certificates(BrokerSettings(), at(0), 0.0)
    assert found.level == "warning" and "not encrypted" in found.found


def test_a_file_that_is_missing_or_no_certificate_is_named(tmp_path: Path) -> None:
    broker = identity(tmp_path, "pi-1")
    (tmp_path / "device.pem").write_text("nonsense")
    found = certificates(broker, at(1), 0.0)
    assert found.level == "failure" and "device.pem cannot be read: it is no certificate" in found.found
    (tmp_path / "device.pem").unlink()
    assert "No such file" in certificates(broker, at(1), 0.0).found


def test_where_openssl_is_missing_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = identity(tmp_path, "pi-1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install openssl" in certificates(broker, at(1), 0.0).found


def test_a_key_that_others_can_read_or_that_is_not_there_is_told(tmp_path: Path) -> None:
    broker = identity(tmp_path, "pi-1")
    (tmp_path / "device.key").chmod(0o640)
    found = certificates(broker, at(1), 0.0)
    assert (found.level, found.remedy) == ("warning", f"chmod 0600 {tmp_path / 'device.key'}")
    missing = msgspec.structs.replace(broker, key_file=tmp_path / "none")
    assert certificates(missing, at(1), 0.0).level == "failure"
