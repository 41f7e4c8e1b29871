from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.errors import ConfigError
from profiling.rounds.prices import load_prices

EXAMPLE = Path(__file__).resolve().parents[3] / "profiling" / "prices.toml"


def test_the_example_can_be_read() -> None:
    prices = load_prices(EXAMPLE)
    assert prices.currency and prices.data.per_gb > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [("currency = 'EUR'", "data"), (EXAMPLE.read_text().replace("per_gb = 4.0", "per_gb = -1.0"), "per_gb")],
)
def test_prices_that_cannot_be_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "prices.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_prices(tmp_path / "prices.toml")
