from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.enrolment.registry import Certificate, Device, Entry, Registry, Report, Request, Token
from edge_agent.wire.errors import StoreError

REQUEST = Request("0a", "pi-1", b"pem", "f" * 64, "pending", "", None, 5)
CERTIFICATE = Certificate("ff" * 20, "pi-1", "f" * 64, 5, 50, "issued", b"pem")


def test_what_is_written_is_read_by_another_process(tmp_path: Path) -> None:
    first, second = Registry(tmp_path / "e.db"), Registry(tmp_path / "e.db")
    token, device, report = Token(b"t" * 32, None, 9, "0a"), Device("pi-1", "f" * 64, True, 7), Report("pi-1", 6, b"{}")
    with first.change() as change:
        change.put_token(token)
        change.put_request(REQUEST)
        change.put_device(device)
        change.put_certificate(CERTIFICATE)
        change.put_report(report)
        change.note(Entry(5, "who", "what", "pi-1", "why"))
    with second.change() as change:
        assert change.tokens() == [token]
        assert change.requests_of("pi-1") == [REQUEST]
        assert change.device("pi-1") == device
        assert change.certificate(CERTIFICATE.serial) == CERTIFICATE
        assert change.device_with("f" * 64) == "pi-1"
    assert second.reports() == {"pi-1": report}
    assert second.audit() == [Entry(5, "who", "what", "pi-1", "why")]
    first.close()
    second.close()


def test_a_change_that_fails_leaves_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "e.db")
    with pytest.raises(RuntimeError), registry.change() as change:
        change.put_request(REQUEST)
        raise RuntimeError
    assert registry.requests() == []
    registry.close()


def test_the_list_of_revoked_certificates_ends_with_their_lifetime(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "e.db")
    with registry.change() as change:
        change.put_certificate(CERTIFICATE._replace(state="revoked"))
        change.put_certificate(CERTIFICATE._replace(serial="01", state="current"))
        assert change.revoked_serials(50) == [CERTIFICATE.serial]
        assert change.revoked_serials(51) == []
    registry.close()


def test_tokens_that_ended_are_dropped(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "e.db")
    with registry.change() as change:
        change.put_token(Token(b"a", None, 9, None))
        change.put_token(Token(b"b", None, 10, None))
        change.drop_tokens(10)
        assert [token.sha256 for token in change.tokens()] == [b"b"]
    registry.close()


def test_a_preapproved_name_may_have_a_key(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "e.db")
    with registry.change() as change:
        change.put_preapproved("pi-1", "")
        assert (change.preapproved("pi-1"), change.preapproved("pi-2")) == ("", None)
        change.drop_preapproved("pi-1")
        assert change.preapproved("pi-1") is None
    registry.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match=r"e\.db"):
        Registry(tmp_path / "e.db")
