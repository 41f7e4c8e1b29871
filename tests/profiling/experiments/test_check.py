"""What a configuration is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.errors import ConfigError
from profiling.experiments.check import check_experiment
from profiling.experiments.settings import MethodEntry, Profile
from tests.experiments import METHODS, make_experiment

CONFIG = Path("config.toml")


def test_a_sound_experiment_passes() -> None:
    check_experiment(CONFIG, make_experiment(Path(), alphas=("client", 0.1)), METHODS)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"methods": (MethodEntry("fedsgd"),)}, "unknown method 'fedsgd', expected one of"),
        ({"methods": (MethodEntry("fedara", ("int5",)),)}, "extras 'int5'"),
        ({"methods": (MethodEntry("fedara"), MethodEntry("fedara"))}, "methods: expected one or more different"),
        ({"methods": ()}, "methods: expected one or more"),
        ({"alphas": ("clients",)}, "alphas: expected numbers or 'client', got 'clients'"),
        ({"alphas": ()}, "alphas: expected one or more"),
        ({"seeds": (1, 1)}, "seeds: expected one or more different"),
        ({"datasets": ()}, "datasets: expected one or more"),
        ({"learning_rates": ()}, "learning_rates: expected one or more"),
        ({"datasets": ("a/news", "b/news")}, "datasets: expected one or more different values, got .'news'"),
        ({"profile": Profile(clients=4, cohort=5)}, r"profile.cohort \(5\)"),
        ({"profile": Profile(rank_shares=(0.0,))}, "profile.rank_shares"),
        ({"profile": Profile(rounds=5)}, r"ranks.warmup_rounds \(2\) and ranks.final_rounds \(3\)"),
        (
            {"methods": (MethodEntry("fedara", ("many",)),), "extras": {"many": {"ranks": {"target": 9.0}}}},
            r"ranks.target \(9\)",
        ),
    ],
)
def test_the_error_names_the_setting(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_experiment(CONFIG, make_experiment(Path(), **changes), METHODS)
