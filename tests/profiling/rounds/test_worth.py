from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.rounds.load import load_run
from profiling.rounds.prices import Prices, load_prices
from profiling.rounds.worth import Worth, cost_table, find_worth, total
from tests.profiling.rounds.recordings import demo, record
from tests.profiling.rounds.test_prices import EXAMPLE

PRICES = load_prices(EXAMPLE)


def changed(section: str, **values: float) -> Prices:
    part = msgspec.structs.replace(getattr(PRICES, section), **values)
    return msgspec.structs.replace(PRICES, **{section: part})


def items_of(worth: Worth) -> dict[str, tuple[float | None, float | None]]:
    return {item.name: (item.fleet, item.central) for item in worth.items}


def test_a_run_is_priced_by_what_was_recorded(tmp_path: Path) -> None:
    """Two devices, two rounds of 10 and 20 s in training and 3 s in what works beside, and 2 s to join; at 6 W."""
    worth = find_worth(load_run(demo(tmp_path, [10.0, 20.0])), PRICES)
    assert (worth.used.devices, worth.used.rounds, worth.used.measured_energy) == (2, 2, 2)
    assert worth.used.work_s == pytest.approx(2 * (2 + 10 + 20 + 2 * 3))
    assert worth.used.energy_j == pytest.approx(6 * worth.used.work_s)
    assert worth.used.round_bytes == 2 * 11 * 1500
    assert worth.used.gained_points == pytest.approx(5.0)
    items = items_of(worth)
    assert items["energy of the boards"][0] == pytest.approx(6 * worth.used.work_s / 3.6e6 * 0.30)
    assert items["data of the rounds"][0] == pytest.approx(2 * 11 * 1500 / 1e9 * 4.0)
    assert items["engineer"] == (640.0, 1280.0)


def test_energy_that_was_not_measured_is_time_at_the_given_power_and_said(tmp_path: Path) -> None:
    run = load_run(record(tmp_path, [10.0], energy_j=None))
    worth = find_worth(run, changed("energy", board_w=5.0))
    assert worth.used.energy_j == pytest.approx(5.0 * worth.used.work_s)
    assert any("1 of 1 devices measured no energy" in line and "5 W" in line for line in worth.assumptions)


def test_bytes_that_were_not_counted_make_no_sum(tmp_path: Path) -> None:
    worth = find_worth(load_run(record(tmp_path, [10.0], bytes_up=None)), PRICES)
    assert worth.used.round_bytes is None and total(worth.items, "fleet") is None
    assert "-" in next(row[1] for row in cost_table(worth).rows if row[0] == "in all")


@given(fleet_hours=st.floats(17, 100), bytes_price=st.floats(0.1, 100))
def test_at_the_break_even_size_both_ways_cost_the_same(
    tmp_path_factory: pytest.TempPathFactory, fleet_hours: float, bytes_price: float
) -> None:
    run = load_run(demo(tmp_path_factory.mktemp("run"), [10.0, 20.0]))
    prices = msgspec.structs.replace(changed("engineer", fleet_hours=fleet_hours + 10), data=PRICES.data)
    prices = msgspec.structs.replace(prices, data=msgspec.structs.replace(prices.data, per_gb=bytes_price))
    worth = find_worth(run, prices)
    assert worth.break_even_bytes is not None
    central = msgspec.structs.replace(prices.central, bytes_per_example=worth.break_even_bytes)
    even = find_worth(run, msgspec.structs.replace(prices, central=central))
    assert total(even.items, "fleet") == pytest.approx(total(even.items, "central"))


def test_a_point_of_accuracy_that_was_not_gained_has_no_price(tmp_path: Path) -> None:
    worth = find_worth(load_run(record(tmp_path, [10.0])), PRICES)
    assert worth.used.gained_points == 0.0
    last = cost_table(worth).rows[-1]
    assert last[1:3] == ("-", "-") and "no accuracy was gained" in last[3]


def test_the_pilot_begins_with_what_costs_most(tmp_path: Path) -> None:
    run = load_run(demo(tmp_path, [10.0, 20.0]))
    assert find_worth(run, PRICES).pilot[0].startswith("engineer: 100.0%")
    dear = msgspec.structs.replace(changed("data", per_gb=1e9), engineer=PRICES.engineer)
    assert find_worth(run, dear).pilot[0].startswith("data of the rounds")
