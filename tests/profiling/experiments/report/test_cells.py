from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edge_agent.wire.errors import ConfigError
from profiling.experiments.record import Result
from profiling.experiments.report.cells import Arm, group
from profiling.experiments.settings import Options, Profile


def test_cells_go_from_even_to_uneven_splits_and_the_product_comes_first(results: list[Result]) -> None:
    (only,) = group(results[::-1])
    assert [(cell.dataset, cell.alpha) for cell in only.cells] == [
        ("20newsgroups", 1.0), ("20newsgroups", 0.01), ("banking77", 1.0), ("banking77", 0.01),
    ]  # fmt: skip
    assert [arm.label for arm in only.options][:4] == ["rankfleet", "fedara", "fedlora", "fedlora + int8"]
    assert all(list(seeds) == [0, 1, 2] for cell in only.cells for seeds in cell.arms.values())
    assert sorted(only.results, key=lambda one: one.run.key) == sorted(results, key=lambda one: one.run.key)


def test_the_split_of_a_data_set_itself_comes_last(make_result: Callable[..., Result]) -> None:
    (only,) = group([make_result(alpha=None), make_result(alpha=0.01)])
    assert [cell.title for cell in only.cells] == ["banking77, alpha 0.01", "banking77, split of its own"]


def test_profiles_and_models_are_kept_apart(make_result: Callable[..., Result]) -> None:
    other = Profile(rounds=6, cohort=7)
    made = [make_result(), make_result(profile=other), make_result(pack="MPNet", pack_sha256="ef" * 32)]
    assert [(one.model, one.profile.cohort, len(one.results)) for one in group(made)] == [
        ("MiniLM-L6", 5, 1), ("MiniLM-L6", 7, 1), ("MPNet", 5, 1),
    ]  # fmt: skip


def test_an_arm_that_was_not_run_has_no_seeds(make_result: Callable[..., Result]) -> None:
    (only,) = group([make_result("fedlora")])
    assert only.cells[0].seeds("fedara") == {}
    assert set(only.cells[0].arms) == {Arm("fedlora", "")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1, "pack_sha256": "00" * 32}, "two packs named MiniLM-L6, with the digests abababababab and 0000"),
        ({"seed": 1, "dataset_sha256": "00" * 32}, "two data sets named banking77"),
        ({"accuracies": (0.1, 0.1, 0.1)}, "fedlora has two results for seed 0"),
    ],
)
def test_what_cannot_stand_in_one_table_is_refused(
    make_result: Callable[..., Result], change: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        group([make_result(), make_result(**change)])


def test_one_name_for_two_sets_of_options_is_refused(make_result: Callable[..., Result]) -> None:
    default = Options()
    faster = msgspec.structs.replace(default, training=msgspec.structs.replace(default.training, lr=0.5))
    with pytest.raises(ConfigError, match=r"fedlora was run with different options.*0\.5"):
        group([make_result(), make_result(seed=1, options=faster)])


def test_no_results_are_an_error() -> None:
    with pytest.raises(ConfigError, match="run the experiment first"):
        group([])
