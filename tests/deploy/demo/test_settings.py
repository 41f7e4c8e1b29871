"""What the demo imitates, and the settings that suit its data."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.datasets import PUBLISHED
from deploy.demo.settings import BOARDS, OTHER_DATA, PROFILES, Options, Profile


def make_options(data: str) -> Options:
    return Options(data, "tiny", Path("out"), None, 2, 0, None, 0.5, None, Path("cache"))


def test_boards_go_from_the_smallest_to_the_largest() -> None:
    budgets = [board.budget_bytes for board in BOARDS]
    assert budgets == sorted(set(budgets))
    assert len({board.name for board in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("data", sorted(PUBLISHED))
def test_published_data_have_a_profile_of_their_own(data: str) -> None:
    assert make_options(data).profile is PROFILES[data]


def test_other_data_have_a_profile_too() -> None:
    assert make_options("/home/me/texts").profile is OTHER_DATA


@pytest.mark.parametrize("profile", [*PROFILES.values(), OTHER_DATA])
def test_profiles_are_possible(profile: Profile) -> None:
    assert profile.rounds >= 1
    assert 0 <= profile.holdout_share < 1
    assert min(profile.local_steps, profile.test_limit) >= 0
