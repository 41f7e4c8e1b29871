from __future__ import annotations

from collections.abc import Callable

import pytest

from profiling.experiments.record import Result
from profiling.experiments.report.cells import group
from profiling.experiments.report.names import STRONG
from profiling.experiments.report.summary import Summary, summarise

Make = Callable[..., Result]


def summary_of(results: list[Result], method: str = "rankfleet") -> Summary:
    (only,) = group(results)
    (found,) = [one for one in summarise(only) if one.method == method and not one.peers_extras]
    return found


def test_both_methods_are_summarised_at_every_alpha(results: list[Result]) -> None:
    (only,) = group(results)
    assert [(one.alpha, one.method, one.peers_extras) for one in summarise(only)] == [
        (1.0, "rankfleet", ""), (1.0, "fedara", ""), (1.0, "rankfleet", "int8"),
        (0.01, "rankfleet", ""), (0.01, "fedara", ""), (0.01, "rankfleet", "int8"),
    ]  # fmt: skip
    for one in summarise(only):
        assert one.datasets == ("20newsgroups", "banking77")
        assert one.difference_to_fedlora is not None and one.difference_to_fedlora.count == 6


def test_differences_are_means_over_data_sets_and_seeds(make_result: Make) -> None:
    gains = {("a", 0): 0.1, ("a", 1): 0.2, ("b", 0): 0.3}
    made = [make_result(dataset=name, seed=seed, accuracies=(0.5,)) for name, seed in gains]
    made += [
        make_result("rankfleet", dataset=name, seed=seed, accuracies=(0.5 + gain,))
        for (name, seed), gain in gains.items()
    ]
    difference = summary_of(made).difference_to_fedlora
    assert difference is not None and difference.ci95 is not None
    assert difference.mean == pytest.approx(0.2)
    assert difference.ci95 == pytest.approx(4.303 * 0.1 / 3**0.5)


def test_strong_peers_count_on_the_seeds_that_all_of_them_have(make_result: Make) -> None:
    made = [make_result("rankfleet", seed=seed, accuracies=(0.8,)) for seed in (0, 1)]
    for place, peer in enumerate(STRONG):
        made.append(make_result(peer, seed=0, accuracies=(0.2 + 0.1 * place,)))
    made.append(make_result(STRONG[0], seed=1, accuracies=(0.0,)))
    difference = summary_of(made).difference_to_strong_peers
    assert difference is not None
    assert difference.mean == pytest.approx(0.8 - 0.35)
    assert difference.count == 1


def test_byte_ratios_are_geometric_means_and_vanish_where_one_pair_does_not_arrive(make_result: Make) -> None:
    made = [make_result(seed=seed, accuracies=(0.5,), round_bytes=8000) for seed in (0, 1)]
    sizes = enumerate((1000, 4000))
    arriving = [make_result("rankfleet", seed=seed, accuracies=(0.6,), round_bytes=size) for seed, size in sizes]
    found = summary_of([*made, *arriving])
    assert found.bytes_ratio_to_fedlora is not None
    assert found.bytes_ratio_to_fedlora.mean == pytest.approx((1 / 8 * 1 / 2) ** 0.5)
    assert (found.reached, found.compared) == (2, 2)
    late = make_result("rankfleet", seed=1, accuracies=(0.4,), round_bytes=4000)
    found = summary_of([*made, arriving[0], late])
    assert found.bytes_ratio_to_fedlora is None
    assert (found.reached, found.compared) == (1, 2)
    assert found.total_bytes_ratio_to_fedlora is not None
    assert found.total_bytes_ratio_to_fedlora.mean == pytest.approx(0.25)


def test_without_peers_there_is_nothing_to_compare(make_result: Make) -> None:
    found = summary_of([make_result("rankfleet")])
    assert found.difference_to_fedlora is None
    assert found.difference_to_strong_peers is None
    assert found.bytes_ratio_to_fedlora is None
    assert (found.reached, found.compared) == (0, 0)


def test_peers_with_extras_are_compared_apart_and_the_published_method_with_the_same(make_result: Make) -> None:
    made = [make_result(accuracies=(0.5,)), make_result(extras="int4", accuracies=(0.6,))]
    made += [make_result("rankfleet", accuracies=(0.8,)), make_result("fedara", extras="int4", accuracies=(0.7,))]
    made += [make_result(peer, extras="int4", accuracies=(0.4,)) for peer in STRONG]
    (only,) = group(made)
    found = {(one.method, one.extras, one.peers_extras): one for one in summarise(only)}
    assert set(found) == {("rankfleet", "", ""), ("rankfleet", "", "int4"), ("fedara", "int4", "int4")}
    differences = {key: one.difference_to_fedlora.mean for key, one in found.items() if one.difference_to_fedlora}
    assert differences == pytest.approx(
        {("rankfleet", "", ""): 0.3, ("rankfleet", "", "int4"): 0.2, ("fedara", "int4", "int4"): 0.1}
    )
    assert found["rankfleet", "", ""].difference_to_strong_peers is None
    strong = found["rankfleet", "", "int4"].difference_to_strong_peers
    assert strong is not None and strong.mean == pytest.approx(0.4)
