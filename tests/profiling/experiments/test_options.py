"""Settings of a method, by extras and learning rate."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.errors import ConfigError
from profiling.experiments.options import make_options, replaced
from profiling.experiments.settings import MethodEntry, Options
from tests.experiments import make_experiment

HERE = Path("/nowhere")
EXTRAS = {
    "short": {"training": {"local_steps": 5, "quantisation": "int8"}, "ranks": {"initial": 4}},
    "int4": {"training": {"quantisation": "int4"}},
    "typo": {"training": {"quantization": "int4"}},
    "wild": {"ranks": {"threshold": 7.0}},
}
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8)
SECTIONS = st.dictionaries(st.sampled_from("abc"), TREES)


def test_without_extras_the_settings_are_the_products_own() -> None:
    assert make_options(make_experiment(HERE), MethodEntry("fedara"), None) == Options()


def test_later_extras_replace_earlier_ones_setting_by_setting() -> None:
    experiment = make_experiment(HERE, extras=EXTRAS)
    options = make_options(experiment, MethodEntry("fedara", ("short", "int4")), None)
    assert (options.training.local_steps, options.training.quantisation, options.ranks.initial) == (5, "int4", 4)
    turned = make_options(experiment, MethodEntry("fedara", ("int4", "short")), None)
    assert turned.training.quantisation == "int8"


@pytest.mark.parametrize(
    ("extras", "named"), [("typo", "quantization"), ("wild", "threshold"), ("none", "none")], ids=str
)
def test_a_wrong_setting_is_named(extras: str, named: str) -> None:
    experiment = make_experiment(HERE, extras=EXTRAS)
    with pytest.raises(ConfigError, match=named):
        make_options(experiment, MethodEntry("fedara", (extras,)), None)


def test_the_other_rates_keep_their_ratio_to_the_learning_rate() -> None:
    training = make_options(make_experiment(HERE), MethodEntry("fedara"), 3e-3).training
    assert (training.lr, training.lr_e, training.lr_head) == (3e-3, 3e-2, 6e-3)


def test_a_rate_that_scales_another_out_of_range_is_an_error() -> None:
    with pytest.raises(ConfigError, match="lr_e"):
        make_options(make_experiment(HERE), MethodEntry("fedara"), 9.0)


@given(tree=SECTIONS, changes=SECTIONS)
def test_replacing_twice_is_replacing_once(tree: dict[str, object], changes: dict[str, object]) -> None:
    once = replaced(tree, changes)
    assert replaced(once, changes) == once
    assert replaced(tree, {}) == tree
