"""Whole runs of the tiny model, on a small data set whose classes nobody has seen all of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from deploy.datasets import write_jsonl
from edge_agent import trainer
from edge_agent.data import Example
from edge_agent.wire.memory_link import MemoryLink
from profiling.experiments.clients import Clients
from profiling.experiments.loop import execute
from profiling.experiments.options import make_options
from profiling.experiments.record import Result
from profiling.experiments.settings import PRODUCT, MethodEntry, Profile, Run
from tests import models
from tests.experiments import make_experiment, make_run
from tests.models import tiny_pack

CLASSES, ROWS, WORDS = 6, 240, 6
VOCABULARY = len(models.WORDS)
PROFILE = Profile(rounds=8, clients=12, cohort=4, depth=1, test_rows=120, evaluate_every=4)
SETTINGS = {
    "training": {"local_steps": 4, "batch_size": 8, "max_tokens": 16},
    "ranks": {"initial": 4, "warmup_rounds": 1, "final_rounds": 2},
}
RATE = 1e-3
WIDE_MARGIN = 0.2


@dataclass
class Seen:
    """What passed while a run was under way."""

    published_bytes: int = 0
    trained: list[tuple[int, int]] = field(default_factory=list)
    batches: list[tuple[int, ...]] = field(default_factory=list)
    steps: list[tuple[int, int, float | None]] = field(default_factory=list)

    def step(self, number: int, rounds: int, accuracy: float | None) -> None:
        self.steps.append((number, rounds, accuracy))


class Watched(NamedTuple):
    result: Result
    seen: Seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of words that belong to their class."""
    folder = tmp_path_factory.mktemp("loop")
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        write_jsonl(folder / "data" / f"{part}.jsonl", [_example(draws, row % CLASSES) for row in range(ROWS)])
    return folder


def _example(draws: np.random.Generator, label: int) -> Example:
    words = draws.integers(0, VOCABULARY // CLASSES, WORDS) * CLASSES + label
    return Example(" ".join(f"word{word}" for word in words), f"class {label}")


def a_run(method: str) -> Run:
    """The method by itself: the product with its defaults, others as published."""
    experiment = make_experiment(Path(), settings=SETTINGS)
    options = make_options(experiment, MethodEntry(method), RATE)
    return make_run(method=method, options=options, profile=PROFILE, alpha=0.01)


def watched(folder: Path, run: Run) -> Watched:
    seen = Seen()
    with pytest.MonkeyPatch.context() as patch:
        _spy(patch, seen)
        result = execute(
            run, tiny_pack(), str(folder / "data"), folder / "cache", lambda *step: seen.steps.append(step)
        )
    return Watched(result, seen)


def _spy(patch: pytest.MonkeyPatch, seen: Seen) -> None:
    publish, train, make_batch = MemoryLink.publish, Clients.train, trainer.make_batch

    def counting(link: MemoryLink, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        seen.published_bytes += len(topic) + len(payload)
        return publish(link, topic, payload, qos=qos)

    def noting_clients(clients: Clients, client: Any, task: Any, start: Any, number: int) -> Any:
        seen.trained.append((number, client.number))
        return train(clients, client, task, start, number)

    def noting_batches(tokens: Any, chosen: Sequence[int], tokeniser: Any) -> Any:
        seen.batches.append(tuple(chosen))
        return make_batch(tokens, chosen, tokeniser)

    patch.setattr(MemoryLink, "publish", counting)
    patch.setattr(Clients, "train", noting_clients)
    patch.setattr(trainer, "make_batch", noting_batches)


@pytest.fixture(scope="module")
def product(folder: Path) -> Watched:
    return watched(folder, a_run(PRODUCT))


@pytest.fixture(scope="module")
def published(folder: Path) -> Watched:
    return watched(folder, a_run("fedara"))


@pytest.fixture(scope="module")
def fedlora(folder: Path) -> Watched:
    return watched(folder, a_run("fedlora"))


def outcome(result: Result) -> Result:
    """All but when and how fast it ran."""
    return msgspec.structs.replace(result, wall_s=0.0, date="")


def test_the_product_beats_fedlora_by_far_where_clients_differ_most(product: Watched, fedlora: Watched) -> None:
    assert product.result.accuracy > fedlora.result.accuracy + WIDE_MARGIN


def test_the_product_sends_fewer_bytes(product: Watched, fedlora: Watched) -> None:
    assert product.result.bytes_total < fedlora.result.bytes_total / 2


def test_the_same_run_gives_the_same_result(folder: Path, product: Watched) -> None:
    assert outcome(watched(folder, product.result.run).result) == outcome(product.result)


@pytest.mark.parametrize("name", ["product", "published", "fedlora"])
def test_the_bytes_counted_are_those_on_the_links(name: str, request: pytest.FixtureRequest) -> None:
    result, seen = request.getfixturevalue(name)
    assert result.bytes_total == seen.published_bytes > 0


def test_cohorts_and_batches_are_the_same_for_all_methods(published: Watched, fedlora: Watched) -> None:
    assert published.seen.trained == fedlora.seen.trained
    assert published.seen.batches == fedlora.seen.batches


def test_cohorts_of_the_product_are_those_of_all_methods(product: Watched, fedlora: Watched) -> None:
    """Where a round goes into the start of the head, the others keep theirs."""
    rounds = {number for number, _ in product.seen.trained}
    assert product.seen.trained == [one for one in fedlora.seen.trained if one[0] in rounds]
    assert rounds >= set(range(2, PROFILE.rounds + 1))


def test_a_cohort_has_the_size_of_the_profile_and_no_client_twice(fedlora: Watched) -> None:
    for number in range(1, PROFILE.rounds + 1):
        cohort = [client for of, client in fedlora.seen.trained if of == number]
        assert len(set(cohort)) == len(cohort) == PROFILE.cohort


def test_all_methods_start_from_the_same_model(published: Watched, fedlora: Watched) -> None:
    assert published.result.start_accuracy == fedlora.result.start_accuracy


def test_the_published_method_ends_at_its_target_and_fedlora_prunes_nothing(
    published: Watched, fedlora: Watched
) -> None:
    living = len([count for count in fedlora.result.rounds[0].ranks if count])
    target = published.result.run.options.ranks.target
    assert sum(published.result.rounds[-1].ranks) == target * living
    assert {sum(one.ranks) for one in fedlora.result.rounds} == {4 * living}


def test_rounds_are_told_and_evaluated_as_the_profile_says(fedlora: Watched) -> None:
    rounds = fedlora.result.rounds
    assert [one.round for one in rounds] == list(range(1, PROFILE.rounds + 1))
    assert [one.accuracy is not None for one in rounds] == [number % 4 == 0 for number in range(1, 9)]
    assert fedlora.seen.steps == [(one.round, PROFILE.rounds, one.accuracy) for one in rounds]


def test_the_first_download_is_free_and_later_ones_are_not(fedlora: Watched) -> None:
    """Version 0 is made from the seed."""
    down = [one.bytes_down for one in fedlora.result.rounds]
    assert down[0] == 0 and all(down[1:])


def test_every_round_has_a_loss_and_a_drift(fedlora: Watched) -> None:
    losses = [one.loss for one in fedlora.result.rounds]
    assert all(loss is not None and np.isfinite(loss) for loss in losses)
    assert all(one.drift is not None and one.drift > 0 for one in fedlora.result.rounds)
