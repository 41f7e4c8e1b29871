"""The layout that statistics of classes travel in."""

from __future__ import annotations

import pytest

from edge_agent.wire import messages as m
from edge_agent.wire.class_statistics import most_axes, statistics_layout, update_layout
from edge_agent.wire.codec import update_limit_bytes
from edge_agent.wire.ranks import HEAD, Layout, Module
from edge_agent.wire.state import layout_digest

LAYOUT = Layout((Module("low", 0, 4, 3),), slots=2, classes=5, d_model=8)


def test_it_has_no_module_and_a_row_for_every_class_and_axis() -> None:
    layout = statistics_layout(LAYOUT)
    assert list(layout.tables) == [HEAD]
    assert layout.tables[HEAD].rows == LAYOUT.classes + most_axes(LAYOUT.d_model)
    assert layout.tables[HEAD].groups == (LAYOUT.d_model, 1)
    assert layout.ranks == 0


def test_an_update_of_it_is_told_from_one_of_training() -> None:
    assert layout_digest(statistics_layout(LAYOUT)) != layout_digest(LAYOUT)


@pytest.mark.parametrize("work", ["class_means", "class_axes"])
def test_the_work_of_a_round_decides_on_the_layout(work: m.PlanWork) -> None:
    assert update_layout(LAYOUT, "train") == LAYOUT
    assert update_layout(LAYOUT, work) == statistics_layout(LAYOUT)


def test_axes_take_no_more_than_the_covariance_would() -> None:
    width = 384
    rows = most_axes(width) * (width + 1)
    assert rows == width * (width + 1) / 2
    assert update_limit_bytes(statistics_layout(LAYOUT)) > 4 * most_axes(LAYOUT.d_model) * LAYOUT.d_model
