from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

from profiling.bench.engine import Row
from profiling.bench.plot import HEIGHT, LINE, WIDTH, svg

SVG = "{http://www.w3.org/2000/svg}"


def make_row(mode: str, rss_mb: float, step_s: float, engine: str = "onnx") -> Row:
    return Row("model <6>", engine, mode, int(rss_mb * 1e6), int(rss_mb * 5e5), step_s, 0.01, 1.0, 0.5, 10**8)


def test_it_is_xml_with_one_mark_for_each_row_and_engine() -> None:
    rows = [make_row("int8-mb1-kept0", 100, 0.5), make_row("eager", 800, 0.4, "torch"), make_row("x", 90, 0.2)]
    root = ET.fromstring(svg(rows))
    assert root.tag == f"{SVG}svg"
    assert len(root.findall(f"{SVG}circle")) == len(rows) + 2
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert {"int8-mb1-kept0", "eager", "model <6>: one training step", "rankfleet", "torch"} <= set(texts)


def test_more_memory_lies_to_the_right_and_more_time_above() -> None:
    rows = [make_row("a", 100, 0.5), make_row("b", 800, 0.1)]
    a, b = ET.fromstring(svg(rows)).findall(f"{SVG}circle")[1:]
    assert float(a.attrib["cx"]) < float(b.attrib["cx"]) < WIDTH
    assert 0 < float(a.attrib["cy"]) < float(b.attrib["cy"]) < HEIGHT


def test_labels_of_equal_rows_do_not_cover_each_other() -> None:
    rows = [make_row(f"mode{index}", 500, 0.5) for index in range(4)]
    labels = [t for t in ET.fromstring(svg(rows)).findall(f"{SVG}text") if (t.text or "").startswith("mode")]
    heights = sorted(float(label.attrib["y"]) for label in labels)
    assert all(after - before >= LINE - 0.1 for before, after in itertools.pairwise(heights))
