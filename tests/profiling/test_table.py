from __future__ import annotations

from profiling.table import Table, markdown_table, text_table

TABLE = Table(("phase", "wall s"), [("train", "10.5"), ("a|b", "3")])


def test_markdown_aligns_figures_and_keeps_bars_inside_of_cells() -> None:
    assert list(markdown_table(TABLE)) == ["| phase | wall s |", "| :-- | --: |", "| train | 10.5 |", "| a\\|b | 3 |"]


def test_a_terminal_has_words_to_the_left_and_figures_to_the_right() -> None:
    assert list(text_table(TABLE)) == ["phase  wall s", "train    10.5", "a|b         3"]
