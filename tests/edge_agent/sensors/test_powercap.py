"""Samples: https://github.com/flightlessmango/MangoHud/issues/1776 (zones and counters of one processor), and
https://github.com/powercap/powercap/issues/3 (which zone contains which)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors import powercap
from edge_agent.sensors.powercap import Zone
from tests.edge_agent.sensors.trees import write

RANGE_UJ = 262143328850
COUNTERS = {
    "intel-rapl:0": ("package-0", 26963529117),
    "intel-rapl:0:0": ("core", 7980278886),
    "intel-rapl:0:1": ("uncore", 6564982278),
    "intel-rapl:0:2": ("dram", 1000000),
}


def tree(root: Path, counters: dict[str, tuple[str, int]]) -> Path:
    files = {"sys/class/powercap/intel-rapl/enabled": "1\n"}
    for folder, (name, energy_uj) in counters.items():
        files |= {f"sys/class/powercap/{folder}/name": f"{name}\n"}
        files |= {f"sys/class/powercap/{folder}/energy_uj": f"{energy_uj}\n"}
        files |= {f"sys/class/powercap/{folder}/max_energy_range_uj": f"{RANGE_UJ}\n"}
    return write(root, files)


def test_package_and_memory_add_up_and_their_parts_do_not(tmp_path: Path) -> None:
    assert powercap.counted(powercap.zones(tree(tmp_path, COUNTERS))) == ["intel-rapl:0", "intel-rapl:0:2"]


def test_the_counter_of_the_whole_system_stands_alone(tmp_path: Path) -> None:
    found = powercap.zones(tree(tmp_path, {**COUNTERS, "intel-rapl:1": ("psys", 5)}))
    assert powercap.counted(found) == ["intel-rapl:1"]


def test_counters_that_may_not_be_read_are_none(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/powercap/intel-rapl:0/name": "package-0\n"})
    found = powercap.zones(tmp_path)
    assert found == {}
    assert powercap.spent_j(found, found) is None


@given(start=st.integers(0, RANGE_UJ), spent=st.integers(0, RANGE_UJ - 1))
def test_a_counter_that_begins_anew_loses_nothing(start: int, spent: int) -> None:
    before = {"a": Zone("package-0", start, RANGE_UJ)}
    after = {"a": Zone("package-0", (start + spent) % RANGE_UJ, RANGE_UJ)}
    assert powercap.spent_j(before, after) == pytest.approx(spent * 1e-6, abs=1.1e-6)


@given(st.text(st.characters(codec="utf-8")))
def test_garbage_is_no_counter(tmp_path_factory, text: str) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path_factory.mktemp("garbage")
    names = ("energy_uj", "max_energy_range_uj")
    assert powercap.zones(write(root, {f"sys/class/powercap/intel-rapl:0/{name}": f"?{text}" for name in names})) == {}
