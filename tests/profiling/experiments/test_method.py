"""What all methods share."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator import fleet_model
from profiling.experiments.method import Client, Model, Task, Upload, mean_loss
from tests.peers import CLIENTS, LAYOUT, a_setup, an_upload

losses = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 1000)), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def upload() -> Upload:
    setup = a_setup()
    return an_upload(setup, Model(fleet_model.start(LAYOUT, 0)), CLIENTS[0], Task(setup.alive), 1)


@given(told=losses)
def test_the_mean_loss_is_weighted_by_examples(upload: Upload, told: list[tuple[float, int]]) -> None:
    uploads = [replace(upload, loss=loss, update=replace(upload.update, examples=examples)) for loss, examples in told]
    expected = [loss for loss, examples in told for _ in range(examples)]
    assert mean_loss(uploads) == pytest.approx(sum(expected) / len(expected))


def test_clients_have_names_of_their_own() -> None:
    assert len({Client(number, 1, 1.0).name for number in range(200)}) == 200
