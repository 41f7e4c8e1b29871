from __future__ import annotations

from profiling.experiments.record import Result
from profiling.experiments.report.contents import collect
from profiling.experiments.report.rows import profile_key


def test_every_row_belongs_to_one_cell_of_its_section(results: list[Result]) -> None:
    (section,) = collect(results, [], "command").sections
    rows = [row for cell in section.group.cells for row in section.cell_rows(cell)]
    assert rows == list(section.rows)
    assert {row.profile for row in rows} == {section.key} == {profile_key(section.group.profile)}
