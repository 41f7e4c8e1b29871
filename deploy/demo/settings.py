"""What a demo runs: options as the command line gives them, and the boards that it imitates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MIB = 2**20


@dataclass(frozen=True)
class Board:
    """A kind of board, by the memory that an agent on it may use."""

    name: str
    budget_bytes: int


BOARDS = (
    Board("Pi Zero 2 W", 192 * MIB),
    Board("Pi 3", 320 * MIB),
    Board("Pi 4", 512 * MIB),
    Board("Pi 5", 1024 * MIB),
    Board("Orin Nano", 2048 * MIB),
)
"""Budgets that resemble these boards: what each has, less its system and some room. Smallest first."""


@dataclass(frozen=True)
class Profile:
    """Settings of a run that suit a data set on two cores."""

    rounds: int
    local_steps: int
    max_tokens: int
    holdout_share: float
    test_limit: int
    """Rows of the common test set to evaluate on, the same for every model; 0 is all of them."""


PROFILES = {
    "excavators": Profile(rounds=5, local_steps=0, max_tokens=32, holdout_share=0.15, test_limit=0),
    "20newsgroups": Profile(rounds=12, local_steps=8, max_tokens=64, holdout_share=0.05, test_limit=1000),
}
OTHER_DATA = Profile(rounds=12, local_steps=16, max_tokens=64, holdout_share=0.1, test_limit=1000)


@dataclass(frozen=True)
class Options:
    """What the user chose."""

    data: str
    model: str
    out: Path
    rounds: int | None
    devices: int
    seed: int
    split: Literal["client", "dirichlet"] | None
    alpha: float
    capabilities: Path | None
    cache: Path

    @property
    def profile(self) -> Profile:
        """The settings that suit the data."""
        return PROFILES.get(self.data, OTHER_DATA)
