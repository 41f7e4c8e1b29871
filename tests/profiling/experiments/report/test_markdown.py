from __future__ import annotations

from collections.abc import Callable

from profiling.experiments.record import Result
from profiling.experiments.report.contents import collect
from profiling.experiments.report.markdown import markdown

Make = Callable[..., Result]


def test_every_table_has_as_many_cells_in_all_its_lines(results: list[Result]) -> None:
    blocks = markdown(collect(results, [], "command")).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    assert len(tables) == 3 + 4
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1
        assert set(lines[1]) <= set("|:- ")


def test_every_cell_has_its_heading(results: list[Result]) -> None:
    lines = markdown(collect(results, [], "command")).splitlines()
    titles = [line.removeprefix("### ") for line in lines if line.startswith("###") and "alpha" in line]
    assert titles == [f"{name}, alpha {alpha}" for name in ("20newsgroups", "banking77") for alpha in ("1", "0.01")]


def test_bars_in_names_do_not_end_a_cell(make_result: Make) -> None:
    text = markdown(collect([make_result(extras="a|b")], [], "command"))
    assert r"| fedlora | a\|b | 1 |" in text


def test_without_the_product_or_the_published_method_there_is_no_summary(make_result: Make) -> None:
    assert "Summary" not in markdown(collect([make_result()], [], "command"))
