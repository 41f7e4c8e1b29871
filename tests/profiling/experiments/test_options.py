"""Settings of a method, by extras and learning rate."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.errors import ConfigError
from profiling.experiments.options import make_options, replaced
from profiling.experiments.settings import PRODUCT, PUBLISHED, MethodEntry, Options
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


def test_the_product_has_its_defaults_and_the_others_what_was_published() -> None:
    experiment = make_experiment(HERE)
    assert make_options(experiment, MethodEntry(PRODUCT), None) == Options()
    published = msgspec.to_builtins(make_options(experiment, MethodEntry("fedara"), None))
    assert published == replaced(msgspec.to_builtins(Options()), PUBLISHED)


def test_the_experiments_settings_are_all_methods_own_and_extras_replace_them() -> None:
    settings = {"training": {"local_steps": 7, "quantisation": "fp16"}}
    experiment = make_experiment(HERE, extras=EXTRAS, settings=settings)
    for name in (PRODUCT, "fedlora"):
        training = make_options(experiment, MethodEntry(name, ("int4",)), None).training
        assert (training.local_steps, training.quantisation) == (7, "int4")
    with pytest.raises(ConfigError, match=r"settings: .*local_step"):
        make_options(make_experiment(HERE, settings={"training": {"local_step": 7}}), MethodEntry("fedara"), None)


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
