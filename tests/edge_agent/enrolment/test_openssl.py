from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment.authority import Authority, fingerprint_of, read_request
from edge_agent.enrolment import openssl
from edge_agent.wire.errors import EnrolmentError
from tests.certificates import NOW


def test_the_gateway_takes_the_request_and_sees_the_same_fingerprint(tmp_path: Path) -> None:
    key, certificate = tmp_path / "k", tmp_path / "c"
    key.write_bytes(openssl.make_key())
    request = openssl.make_request(key, "pi-1")
    issued = Authority.create("site", NOW).sign(request, "pi-1", NOW, 90)
    assert openssl.key_fingerprint(key) == fingerprint_of(read_request(request)) == issued.fingerprint
    certificate.write_bytes(issued.certificate_pem)
    assert openssl.certificate_fingerprint(certificate) == issued.fingerprint
    begins_s, ends_s = openssl.certificate_dates(certificate)
    assert begins_s == int((NOW - timedelta(days=1)).timestamp())
    assert ends_s == issued.not_after.timestamp()


def test_every_key_is_another() -> None:
    assert openssl.make_key() != openssl.make_key()


def test_what_is_no_key_or_certificate_is_refused(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"nonsense")
    for ask in (openssl.key_fingerprint, openssl.certificate_fingerprint, openssl.certificate_dates):
        with pytest.raises(EnrolmentError, match="openssl"):
            ask(nothing)


def test_a_board_without_the_command_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert shutil.which("openssl")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnrolmentError, match="apt install openssl"):
        openssl.make_key()
