from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from profiling.rounds.load import load_run
from profiling.rounds.ranks import RankMap
from profiling.rounds.report import page, write_report
from tests.profiling.rounds.recordings import demo

RANKS = RankMap(("encoder.layer.0.output.dense", "encoder.layer.1.output.dense"), (3, 1), 3)


def test_a_report_is_three_files_with_the_recorder_s_own_numbers(tmp_path: Path) -> None:
    folder = demo(tmp_path / "run", [10.0, 11.0, 12.5])
    html, markdown, rows = write_report(folder, load_run(folder), tmp_path / "out", "rankfleet profile report")
    assert "11.000" in html.read_text() and "| train | 3 | 11.000 |" in markdown.read_text()
    table = list(csv.DictReader(io.StringIO(rows.read_text())))
    trained = [float(row["wall_s"]) for row in table if row["phase"] == "train" and row["device"] == "a"]
    assert trained == [10.0, 11.0, 12.5]
    assert len(table) == 2 * (1 + 3 * 5)


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = page(load_run(demo(tmp_path, [10.0, 11.0])), RANKS, "rankfleet")
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", text)
    assert text.count("<svg") >= 10
