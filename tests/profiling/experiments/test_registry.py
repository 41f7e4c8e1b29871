"""Methods by their names."""

from __future__ import annotations

import pytest

from profiling.experiments.method import Task
from profiling.experiments.registry import METHODS
from profiling.experiments.settings import PRODUCT
from tests.peers import CLIENTS, a_round, a_setup


@pytest.mark.parametrize("name", METHODS)
def test_every_method_plays_two_rounds(name: str) -> None:
    method, setup = METHODS[name](), a_setup()
    model = method.start(setup)
    for number in (1, 2):
        task = method.task(setup, model, CLIENTS[0], number)
        assert isinstance(task, Task)
        assert not (task.trained & ~setup.alive).any(), "only ranks that there are"
        model, uploads = a_round(method, setup, model, number)
        assert model.broadcast and len(uploads) == len(CLIENTS)
        assert model.fleet.state.version == number


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_pure(name: str) -> None:
    """A second object of the same method goes on where the first ended: all memory is in the model."""
    setup = a_setup()
    after, _ = a_round(METHODS[name](), setup, METHODS[name]().start(setup), 1)
    first, second = (a_round(METHODS[name](), setup, after, 2)[0] for _ in range(2))
    assert first.broadcast == second.broadcast


def test_the_product_and_the_published_method_are_there() -> None:
    assert {PRODUCT, "fedara", "fedlora"} <= METHODS.keys()
