"""Made-up results of the shape of real ones: every run the same, but for what its maker was told."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest

from profiling.experiments.record import Result, RoundResult
from profiling.experiments.settings import Options, Profile, Run

MakeResult = Callable[..., Result]
OPTIONS, PROFILE = Options(), Profile(rounds=6, evaluate_every=2)
MODULES = tuple(
    f"encoder.layer.{layer}.{name}"
    for layer in (4, 5)
    for name in ("attention.self.query", "attention.self.value", "attention.output.dense", "output.dense")
)


def _make_result(
    method: str = "fedlora",
    *,
    extras: str = "",
    dataset: str = "banking77",
    alpha: float | None = 0.1,
    seed: int = 0,
    accuracies: Sequence[float] = (0.3, 0.5, 0.6),
    round_bytes: int = 4_000_000,
    device_s: float | None = 12.5,
    options: Options = OPTIONS,
    profile: Profile = PROFILE,
    pack: str = "MiniLM-L6",
    pack_sha256: str = "ab" * 32,
    dataset_sha256: str = "cd" * 32,
) -> Result:
    """A run that is evaluated after every second round, with these `accuracies`."""
    run = Run(pack, pack_sha256, dataset, dataset_sha256, alpha, seed, method, extras, options, profile)
    rounds = tuple(
        RoundResult(
            round=number,
            bytes_up=round_bytes // 2,
            bytes_down=round_bytes - round_bytes // 2,
            loss=2.0 / number,
            accuracy=None if number % 2 else accuracies[number // 2 - 1],
            device_s=device_s,
            drift=None if method == "head" else 1.0 + 0.1 * number,
            ranks=tuple(max(0, 8 - number - place % 3) for place in range(len(MODULES))),
        )
        for number in range(1, 2 * len(accuracies) + 1)
    )
    return Result(run, MODULES, 0.02, rounds, 61.0, f"2026-11-2{seed}", "0.1.0")


@pytest.fixture
def make_result() -> MakeResult:
    return _make_result


_STRENGTHS = {
    "rankfleet": (0.12, 400_000),
    "fedara": (0.03, 2_500_000),
    "fedlora": (0.0, 6_000_000),
    "ffa_lora": (-0.03, 3_000_000),
    "flexlora": (0.01, 6_000_000),
    "fedex_lora": (0.02, 9_000_000),
    "lora_a2": (0.02, 2_000_000),
    "head": (-0.2, 80_000),
}
"""Accuracy above FedLoRA's, and bytes a round."""


@pytest.fixture
def results() -> list[Result]:
    """Two data sets, two alphas, three seeds, every method, and FedLoRA with extras too."""
    arms = [*((method, "") for method in _STRENGTHS), ("fedlora", "int8")]
    cells = itertools.product((("banking77", 0.5), ("20newsgroups", 0.4)), ((1.0, 0.0), (0.01, 0.2)), range(3), arms)
    made = []
    for (dataset, level), (alpha, skew), seed, (method, extras) in cells:
        gain, round_bytes = _STRENGTHS[method]
        final = level - skew + gain * (1 + skew) + 0.01 * ((7 * seed + len(method)) % 5)
        made.append(
            _make_result(
                method, extras=extras, dataset=dataset, alpha=alpha, seed=seed,
                accuracies=(0.5 * final, 0.9 * final, final), round_bytes=round_bytes // (4 if extras else 1),
            )
        )  # fmt: skip
    return made
