"""The text that Prometheus reads, by the parser of its own client library."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from edge_agent.wire.exposition import Family, text

parser = pytest.importorskip(
    "prometheus_client.parser", reason="pip install prometheus-client: /metrics is not read back"
)
LABELS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=20)


@given(LABELS, LABELS.map(lambda value: value.replace("\n", " ").strip()), st.floats(allow_nan=False))
def test_whatever_a_label_or_a_value_is_it_is_read_back(label: str, about: str, value: float) -> None:
    family = Family("rankfleet_x_bytes", "gauge", about or "x").add(value, device=label)
    (found,) = parser.text_string_to_metric_families(text([family]).decode())
    (sample,) = found.samples
    assert (found.type, sample.name, sample.labels, sample.value) == (
        "gauge", "rankfleet_x_bytes", {"device": label}, value,
    )  # fmt: skip


def test_what_is_not_known_has_no_sample_and_a_metric_without_samples_is_not_named() -> None:
    family = Family("rankfleet_x", "gauge", "x").add(None)
    assert text([family, Family("rankfleet_y_total", "counter", "y").add(3)]) == (
        b"# HELP rankfleet_y_total y\n# TYPE rankfleet_y_total counter\nrankfleet_y_total 3.0\n"
    )
