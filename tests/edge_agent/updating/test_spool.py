"""An order without a report is one whose end is not known; a report stays until it is delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.updating.spool import Spool
from edge_agent.wire.errors import StoreError
from edge_agent.wire.updates import ReleaseOrder, UpdateReport

ORDER = ReleaseOrder("a.tar", "a" * 64, 1, "1.1", "agent", 3)
REPORT = UpdateReport("1.1", "aarch64", "3.11", "a.tar", 3, "installed")


def test_an_order_is_known_until_its_end_is(tmp_path: Path) -> None:
    Spool(tmp_path / "spool").begin(ORDER)
    assert Spool(tmp_path / "spool").order() == ORDER
    Spool(tmp_path / "spool").finish(REPORT)
    again = Spool(tmp_path / "spool")
    assert (again.order(), again.report()) == (None, REPORT)
    again.delivered()
    assert (again.order(), again.report()) == (None, None)


def test_an_order_that_is_left_beside_its_report_is_at_an_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.finish(REPORT)
    (tmp_path / "order.json").write_bytes(b'{"name":"a.tar"')
    assert spool.order() is None
    spool.delivered()
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(b"{")
    with pytest.raises(StoreError, match=r"report\.json cannot be read"):
        Spool(tmp_path).report()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="spool cannot be used"):
        Spool(tmp_path / "file" / "spool")
