from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.config import ObjectiveSettings
from coordinator.objectives import Facts, Standing, changes, judge

ALL = ObjectiveSettings(round_s=60.0, devices=3, accuracy=0.8, update_age_s=3600.0)
GOOD = Facts(round_open_s=10.0, devices_online=3, accuracy=0.9, update_age_s=100.0)


def test_what_is_within_its_bound_is_met() -> None:
    assert [(one.name, one.met) for one in judge(ALL, GOOD)] == [
        ("round_s", True), ("devices", True), ("accuracy", True), ("update_age_s", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("round_s", Facts(60.1, 3, 0.9, 100.0)),
        ("devices", Facts(10.0, 2, 0.9, 100.0)),
        ("accuracy", Facts(10.0, 3, 0.79, 100.0)),
        ("update_age_s", Facts(10.0, 3, 0.9, 3601.0)),
    ],
)
def test_what_is_beyond_its_bound_is_missed_and_nothing_else(name: str, facts: Facts) -> None:
    assert [one.name for one in judge(ALL, facts) if not one.met] == [name]


def test_without_a_bound_nothing_is_judged() -> None:
    assert judge(ObjectiveSettings(), Facts(1e6, 0, 0.0, 1e6)) == ()


def test_what_cannot_be_told_is_neither_met_nor_missed() -> None:
    found = judge(ALL, Facts(None, 3, None, None))
    assert [one.name for one in found] == ["devices"]
    assert changes({"accuracy": False}, found) == ()


@given(st.lists(st.booleans(), max_size=30))
def test_a_change_is_told_once_and_its_end_too(history: list[bool]) -> None:
    known: dict[str, bool] = {}
    told = []
    for met in history:
        for change in changes(known, (Standing("devices", 3.0, 3.0 if met else 2.0, met),)):
            known[change.name] = change.met
            told.append(change.met)
    assert told == [index % 2 == 1 for index in range(len(told))], "missed, met again, missed, ..."
    assert (told[-1] if told else True) == (history[-1] if history else True)
