"""Orders and reports are checked where they come in."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.wire.errors import ProtocolError
from edge_agent.wire.updates import Facts, ReleaseOrder, UpdateReport, read_orders

ORDER = {"name": "a.tar", "sha256": "a" * 64, "bytes": 1, "version": "1.0", "kind": "agent", "rollout": 1}


def test_orders_are_read() -> None:
    orders = read_orders(msgspec.json.encode({"renew": True, "release": ORDER}))
    assert orders.renew
    assert orders.release == ReleaseOrder("a.tar", "a" * 64, 1, "1.0", "agent", 1)
    assert read_orders(b"{}").release is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../etc/passwd"},
        {"name": ".."},
        {"name": "a/b"},
        {"name": ""},
        {"sha256": "A" * 64},
        {"sha256": "a" * 63},
        {"bytes": 0},
        {"bytes": 2**60},
        {"kind": "kernel"},
        {"rollout": 0},
        {"rollout": 2**63},
        {"version": "-1; rm"},
    ],
)
def test_an_impossible_order_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="expected orders"):
        read_orders(msgspec.json.encode({"release": {**ORDER, **wrong}}))


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ProtocolError, match="expected orders"):
        read_orders(b"<html>502</html>")


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a version such as 1\.2\.0"):
        Facts("latest", "aarch64", "3.11")
    with pytest.raises(msgspec.ValidationError, match="latest"):
        msgspec.json.decode(b'{"version":"latest","machine":"aarch64","python":"3.11"}', type=Facts)


def test_a_report_has_a_reason_of_limited_length() -> None:
    report = UpdateReport("1.0", "aarch64", "3.11", "a.tar", 1, "failed", "x" * 1001)
    with pytest.raises(msgspec.ValidationError, match="reason"):
        msgspec.json.decode(msgspec.json.encode(report), type=UpdateReport)
