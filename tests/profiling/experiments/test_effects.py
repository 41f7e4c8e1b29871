"""What a sweep finds in made-up results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.experiments.effects import Effects, find_effects, table
from profiling.experiments.record import Result
from profiling.experiments.settings import MethodEntry
from profiling.experiments.sweep import Factors, Sweep, Trial, trials_of
from tests.experiments import MATERIALS, make_experiment, make_result

FACTORS = {"training.importance": ("energy", "sensitivity"), "ranks.target": (4.0,)}


def make_sweep(design: str = "one-at-a-time", seeds: tuple[int, ...] = (0, 1, 2)) -> Sweep:
    experiment = make_experiment(Path("/here"), methods=(MethodEntry("fedara"),), seeds=seeds)
    return Sweep(experiment, Factors(FACTORS, design))


def find(sweep: Sweep, accuracy: Callable[[Trial], float | None]) -> Effects:
    trials = trials_of(sweep, MATERIALS, 1e-3)
    results = {one.job.run.key: _result(one, value) for one in trials if (value := accuracy(one)) is not None}
    return find_effects(sweep, trials, results)


def _result(trial: Trial, accuracy: float) -> Result:
    """Twice the bytes for twice the ranks."""
    result, factor = make_result(trial.job.run, accuracy), trial.job.run.options.ranks.target / 2
    rounds = tuple(
        msgspec.structs.replace(one, bytes_up=int(one.bytes_up * factor), bytes_down=int(one.bytes_down * factor))
        for one in result.rounds
    )
    return msgspec.structs.replace(result, rounds=rounds)


def made_up(trial: Trial) -> float:
    """Ranks help a lot, energy a little, sensitivity not at all; seeds and places matter more than all of them."""
    run, place = trial.job.run, trial.place
    luck = 0.001 * ((place.seed * 7 + len(place.dataset)) % 3) * len(trial.variant)
    own = 0.1 * place.seed + (place.alpha or 0) / 10
    helps = {"energy": 0.01}.get(run.options.training.importance, 0.0) + 0.02 * run.options.ranks.target
    return 0.2 + own + helps + luck


@pytest.mark.parametrize("design", ["one-at-a-time", "grid"])
def test_effects_are_paired_differences_and_the_largest_come_first(design: str) -> None:
    found = find(make_sweep(design), made_up)
    assert [(one.setting, one.value) for one in found.effects] == [
        ("ranks.target", "4.0"), ("training.importance", "energy"), ("training.importance", "sensitivity"),
    ]  # fmt: skip
    ranks, energy, sensitivity = found.effects
    assert ranks.accuracy.mean == pytest.approx(0.041, abs=5e-4) and ranks.accuracy.count == 3
    assert (ranks.base, energy.base) == ("2.0", "magnitude")
    assert ranks.bytes.mean == pytest.approx(2) and energy.bytes.mean == pytest.approx(1)
    assert ranks.matters and energy.matters and not sensitivity.matters
    assert ranks.pairs == (12 if design == "one-at-a-time" else 36) and found.missing == 0


def test_runs_without_their_partner_are_left_out() -> None:
    found = find(make_sweep(), lambda one: made_up(one) if one.variant or one.place.seed else None)
    assert {(one.accuracy.count, one.pairs) for one in found.effects} == {(2, 8)} and found.missing == 4
    nothing = find(make_sweep(), lambda one: made_up(one) if one.variant else None)
    assert nothing.effects == () and "12 runs are missing" in table(nothing)


def test_one_seed_cannot_tell_what_matters() -> None:
    found = find(make_sweep(seeds=(0,)), made_up)
    assert not any(one.matters for one in found.effects)
    assert all(one.accuracy.ci95 is None for one in found.effects)
    assert table(found)[-1] == "settings that matter to fedara: none beyond its interval"


def test_the_table_shows_points_and_names_what_matters() -> None:
    lines = table(find(make_sweep(), made_up))
    assert lines[1].split()[:3] == ["ranks.target", "4.0", "2.0"]
    assert "+4.1" in lines[1] and "2.00 x (2.00 to 2.00)" in lines[1] and lines[1].endswith("yes")
    assert lines[-1] == "settings that matter to fedara: ranks.target, training.importance"


@given(shift=st.floats(-0.2, 0.2))
def test_what_all_runs_share_does_not_change_an_effect(shift: float) -> None:
    plain, shifted = (find(make_sweep(), lambda one, by=by: made_up(one) + by) for by in (0.0, shift))
    for one, other in zip(plain.effects, shifted.effects, strict=True):
        assert other.accuracy.mean == pytest.approx(one.accuracy.mean, abs=1e-9)
