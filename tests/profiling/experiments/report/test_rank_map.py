from __future__ import annotations

from collections.abc import Callable

import pytest

from profiling.experiments.record import Result
from profiling.experiments.report.rank_map import chosen_rounds, rank_map

Make = Callable[..., Result]


def test_every_module_has_a_place_in_every_map(make_result: Make) -> None:
    result = make_result()
    image = rank_map("where ranks live", [result])
    assert len(image.findall("rect")) == 6 * len(result.modules)
    texts = [text.text for text in image.findall("text")]
    assert {"round 1", "round 6", "layer 4", "layer 5", "attention.self.query", "output"} <= set(texts)
    assert image[0].text == "where ranks live"


def test_more_ranks_are_darker(make_result: Make) -> None:
    result = make_result()
    first = rank_map("t", [result]).findall("rect")[: len(result.modules)]
    shades = [float(cell.attrib["fill-opacity"]) for cell in first]
    ranks = result.rounds[0].ranks
    assert sorted(range(len(ranks)), key=ranks.__getitem__) == sorted(range(len(ranks)), key=shades.__getitem__)


def test_seeds_are_averaged(make_result: Make) -> None:
    one = make_result(seed=0)
    assert [text.text for text in rank_map("t", [one, make_result(seed=1)]).findall("text")] == [
        text.text for text in rank_map("t", [one]).findall("text")
    ]


@pytest.mark.parametrize(
    ("rounds", "places"), [(1, [0]), (2, [0, 1]), (6, [0, 1, 2, 3, 4, 5]), (21, [0, 4, 8, 12, 16, 20])]
)
def test_rounds_are_chosen_evenly_from_the_first_to_the_last(rounds: int, places: list[int]) -> None:
    assert chosen_rounds(rounds) == places
