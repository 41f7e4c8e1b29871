from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.enrolment import dates

DATE_S = 1793534400.0


@settings(deadline=None)
@given(noted_s=st.lists(st.floats(1, 5e9), min_size=1))
def test_the_newest_date_is_kept(tmp_path_factory: pytest.TempPathFactory, noted_s: list[float]) -> None:
    folder = tmp_path_factory.mktemp("identity")
    for date_s in noted_s:
        dates.note(folder, date_s)
    believable = [date_s for date_s in noted_s if date_s < dates.LATEST_S]
    assert dates.newest_s(folder) == (pytest.approx(max(believable), abs=0.6) if believable else None)


def test_time_is_never_before_the_newest_date(tmp_path: Path) -> None:
    assert dates.now_s(tmp_path) == pytest.approx(time.time(), abs=5)
    dates.note(tmp_path, dates.LATEST_S - 1)
    assert dates.now_s(tmp_path) == dates.LATEST_S - 1


@pytest.mark.parametrize("text", ["", "nonsense", "-5", "nan", "inf", "1e300", "\xff"])
def test_a_damaged_date_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / dates.NEWEST_DATE).write_text(text, encoding="latin-1")
    assert dates.newest_s(tmp_path) is None
    dates.note(tmp_path, DATE_S)
    assert dates.newest_s(tmp_path) == DATE_S
    assert dates.show(DATE_S) in (tmp_path / dates.NEWEST_DATE).read_text()


def test_the_date_of_a_header() -> None:
    assert dates.header_s("Sun, 01 Nov 2026 12:00:00 GMT") == DATE_S
    assert dates.header_s("yesterday") is None
    assert dates.header_s(None) is None
