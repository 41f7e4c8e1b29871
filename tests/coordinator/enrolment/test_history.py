"""In which rounds a device's updates counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.enrolment.history import past_rounds
from coordinator.run import DATABASE
from coordinator.store import Checkpoint, Contribution, Store
from edge_agent.wire.errors import StoreError


def test_closed_rounds_count_and_the_open_one_does_not(tmp_path: Path) -> None:
    store = Store(tmp_path / DATABASE)
    for number, devices in ((1, ("pi-1", "pi-2")), (2, ("pi-2",)), (3, ("pi-1",)), (4, ("pi-1",))):
        for device in devices:
            store.keep_contribution(number, Contribution(device, b"s", b"r", b"b", number))
        if number < 4:
            store.close_round(number, Checkpoint(number, b"", b"", b""), b"", b"{}")
    store.close()
    assert past_rounds(tmp_path, "pi-1") == (1, 3)
    assert past_rounds(tmp_path, "pi-3") == ()


def test_before_the_run_began_there_are_none(tmp_path: Path) -> None:
    assert past_rounds(tmp_path / "run", "pi-1") == ()
    assert not (tmp_path / "run").exists()


def test_a_damaged_database_is_no_empty_history(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError):
        past_rounds(tmp_path, "pi-1")
