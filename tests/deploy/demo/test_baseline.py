"""What the fleet is compared with: evaluation and training alone, on the tiny model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import TrainingSettings
from deploy.datasets import write_jsonl
from deploy.demo.baseline import Alone, Job, accuracy, run
from edge_agent.data import Example
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import RankfleetError
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import HEAD
from tests.models import tiny_pack

CLASSES = ("even", "odd")
SLOTS = 2


def make_rows(folder: Path, name: str, count: int) -> str:
    """Texts whose words tell their class."""
    rows = [
        Example(f"word{index % 2} word{2 + index % 2} word{index % 50}", CLASSES[index % 2]) for index in range(count)
    ]
    write_jsonl(folder / name, rows)
    return str(folder / name)


def make_job(folder: Path, **changes: object) -> Job:
    training = TrainingSettings(batch_size=4, max_tokens=8, lr=0.01, lr_e=0.05, lr_head=0.05)
    job = Job(
        pack=str(tiny_pack()),
        classes=CLASSES,
        slots=SLOTS,
        seed=3,
        training=m.Training(**msgspec.structs.asdict(training)),
        test=make_rows(folder, "test.jsonl", 20),
        threads=1,
    )
    return msgspec.structs.replace(job, **changes)


def test_a_state_is_evaluated_as_given(tmp_path: Path) -> None:
    """A head that always says the same class is right for that class's rows."""
    layout = module_layout(load_manifest(tiny_pack()), SLOTS, len(CLASSES))
    state = states.seed_state(layout, 3)
    state.rows[HEAD][:] = 0
    state.rows[HEAD][1, -1] = 1
    assert run(make_job(tmp_path, state=states.to_bytes(state))) == 0.5


def test_without_a_state_it_is_the_seed_state(tmp_path: Path) -> None:
    layout = module_layout(load_manifest(tiny_pack()), SLOTS, len(CLASSES))
    seed = states.to_bytes(states.seed_state(layout, 3))
    assert run(make_job(tmp_path)) == run(make_job(tmp_path, state=seed))


def test_a_device_that_trains_alone_learns_its_own_data(tmp_path: Path) -> None:
    alone = Alone("pi-1", make_rows(tmp_path, "train.jsonl", 40), holdout_share=0.1, steps=40)
    assert run(make_job(tmp_path, alone=alone)) >= 0.9


def test_a_process_of_its_own_gives_the_same(tmp_path: Path) -> None:
    alone = Alone("pi-1", make_rows(tmp_path, "train.jsonl", 10), holdout_share=0.0, steps=3)
    job = make_job(tmp_path, alone=alone)
    assert accuracy(job) == run(job)


def test_a_process_that_fails_is_an_error_that_quotes_it(tmp_path: Path) -> None:
    with pytest.raises(RankfleetError, match=r"nowhere\.jsonl"):
        accuracy(make_job(tmp_path, test=str(tmp_path / "nowhere.jsonl")))
