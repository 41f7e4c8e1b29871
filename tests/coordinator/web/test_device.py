"""The page of one device."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import journal as journals
from coordinator.run import DATABASE
from coordinator.store import DeviceRow
from coordinator.web.device import ROUNDS, device_page
from edge_agent.wire.errors import EnrolmentError
from tests.coordinator.web.pages import begin_run
from tests.coordinator.web.test_reader import contribute
from tests.disks import GARBAGE, damage
from tests.wire.examples import REPORT


def test_its_last_rounds_and_what_happened_the_newest_first(tmp_path: Path) -> None:
    store = begin_run(tmp_path)
    store.keep_device(DeviceRow("pi-1", 1, 1, True, None, ""))
    for number in range(1, ROUNDS + 3):
        contribute(store, number, "pi-1")
    contribute(store, 1, "pi-2")
    journal = journals.Journal(tmp_path / journals.FILE)
    lines = [
        journals.Line(float(date_s), "left", name, None, "x") for date_s, name in enumerate(("pi-1", "pi-2", "pi-1"))
    ]
    journal.write(lines, [])
    found = device_page(tmp_path, "pi-1")
    assert [one.round for one in found.rounds] == list(range(ROUNDS + 2, 2, -1))
    assert found.rounds[0].report == REPORT
    assert [line.date_s for line in found.log] == [2.0, 0.0]


def test_a_damaged_report_is_left_out(tmp_path: Path) -> None:
    store = begin_run(tmp_path)
    store.keep_device(DeviceRow("pi-1", 1, 1, True, None, ""))
    for number in (1, 2):
        contribute(store, number, "pi-1")
    damage(tmp_path / DATABASE, "UPDATE contribution SET report = ? WHERE round = 1", GARBAGE)
    assert [one.round for one in device_page(tmp_path, "pi-1").rounds] == [2]


@pytest.mark.parametrize("begun", [True, False])
def test_of_a_device_that_nobody_knows_there_is_no_page(tmp_path: Path, begun: bool) -> None:
    if begun:
        begin_run(tmp_path).close()
    with pytest.raises(EnrolmentError, match="no device 'pi-9'") as refused:
        device_page(tmp_path, "pi-9")
    assert refused.value.status == 404
    assert (tmp_path / DATABASE).exists() is begun
