from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent import jobs
from edge_agent.data import Example, split_holdout
from edge_agent.examples import Tokens
from edge_agent.midway import round_key
from edge_agent.prefix import key_of
from edge_agent.wire import cost
from edge_agent.wire import state as states
from edge_agent.wire.errors import PayloadError, StoreError
from edge_agent.workspace import Workspace, check_digest, rows_below
from tests.agents import TRAINING, make_terms, make_welcome, plan_for, seed_state
from tests.disks import GARBAGE, damage
from tests.runs import CAPABILITY, make_state


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(make_terms(tmp_path))


def write_snapshot(folder: Path, version: int) -> str:
    path = folder / f"snapshot-{version}"
    path.write_bytes(states.to_bytes(make_state(version)))
    return str(path)


def test_without_a_stored_model_the_seed_state_holds(space: Workspace) -> None:
    assert states.digest(space.state()) == states.digest(seed_state())
    assert all(not table.any() for table in space.residual().values())


def test_what_is_kept_comes_back(space: Workspace) -> None:
    state, lost = make_state(3), make_state(4).rows
    kept = {name: np.where(make_mask(space, name), lost[name], 0).astype(np.float32) for name in lost}
    space.store.keep_model(space.model(state, kept))
    assert states.digest(space.state()) == states.digest(state)
    residual = space.residual()
    assert all((residual[name] == kept[name]).all() for name in kept)


def test_a_damaged_residual_is_forgotten_and_the_state_is_not(
    space: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    space.store.keep_model(space.model(make_state(3), make_state(4).rows))
    damage(space.store.path, "UPDATE model SET residual = ?", GARBAGE)
    assert all(not table.any() for table in space.residual().values())
    assert states.digest(space.state()) == states.digest(make_state(3))
    assert any("damaged, and forgotten" in line for line in caplog.messages)


def make_mask(space: Workspace, name: str) -> np.ndarray:
    """The living rows of a table at version 3, as a column; every row of the head."""
    mask = make_state(3).mask
    places = [i for i, module in enumerate(space.layout.modules) if module.name == name]
    return mask[places[0]][:, None] if places else np.ones((1, 1), bool)


def test_objects_bring_the_state_forward_and_never_back(space: Workspace, tmp_path: Path) -> None:
    deltas = tuple(write_snapshot(tmp_path, version) for version in (2, 5, 3))
    assert states.digest(space.state(deltas)) == states.digest(make_state(5))


def test_an_object_that_is_gone_is_named(space: Workspace, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone cannot be read \(No such file"):
        space.state((str(tmp_path / "gone"),))


def test_an_object_that_is_damaged_is_refused(space: Workspace, tmp_path: Path) -> None:
    path = Path(write_snapshot(tmp_path, 2))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PayloadError):
        space.state((str(path),))


def test_a_state_passes_only_at_its_version_and_with_its_digest() -> None:
    state = make_state(2)
    check_digest(state, 2, states.digest(state))
    for version, expected in ((1, states.digest(state)), (2, states.digest(make_state(3)))):
        with pytest.raises(PayloadError, match=r"is not the coordinator's .* delete the agent's state folder"):
            check_digest(state, version, expected)


@pytest.mark.parametrize(("fleet", "expected"), [(8, 8), (4096, 64)])
def test_sequences_are_as_long_as_both_the_fleet_and_the_model_allow(tmp_path: Path, fleet: int, expected: int) -> None:
    training = msgspec.structs.replace(TRAINING, max_tokens=fleet)
    assert Workspace(make_terms(tmp_path, welcome=make_welcome(training=training))).max_tokens == expected


def test_the_terms_choose_the_engine(tmp_path: Path) -> None:
    terms = make_terms(tmp_path, engine="torch", torch_device="cpu")
    assert type(Workspace(terms).engine).__name__ == "TorchEngine"
    assert type(Workspace(msgspec.structs.replace(terms, engine="onnx")).engine).__name__ == "BlockwiseEngine"


def ids_of(tokens: Tokens) -> set[tuple[int, ...]]:
    return {tuple(ids.tolist()) for ids in tokens.ids}


def test_what_was_held_out_stays_so_when_data_come_and_the_process_is_another(tmp_path: Path) -> None:
    """Eight texts of which none would be held out by its draw: one is, and stays so beside one that is drawn."""
    texts = [f"word{a} word{b}" for a in range(12) for b in range(12)]
    drawn = {example.text for example in split_holdout([Example(text, "belt") for text in texts], share=0.2, seed=0)[1]}
    high, low = [text for text in texts if text not in drawn][:8], sorted(drawn)[:1]
    terms = make_terms(tmp_path)
    data = tmp_path / "grows.jsonl"
    terms = msgspec.structs.replace(terms, data=str(data))
    sides = []
    for rows in (high, [*high, *low]):
        data.write_text("".join(f'{{"text": "{text}", "label": "belt"}}\n' for text in rows))
        space = Workspace(terms)
        train, holdout = space.examples(16)
        space.store.close()
        sides.append((ids_of(train), ids_of(holdout)))
    (_, held), (train, now_held) = sides
    assert len(held) == 1 and len(now_held) == 2
    assert held <= now_held and not held & train


def test_what_is_kept_by_place_is_of_no_use_once_a_row_came(tmp_path: Path) -> None:
    """A row in front moves all others: their states, and a round that was interrupted, are others then."""
    terms = make_terms(tmp_path, prefix_limit_bytes=2**20)
    data = Path(terms.data)
    state, job = seed_state(), jobs.TrainJob(terms, plan_for(seed_state()), (), CAPABILITY)
    plan = cost.ChosenPlan(8, 0, 16, 0, 1, 1.0)
    names, keys = [], []
    for row in ("", '{"text": "word9 word9", "label": "belt"}\n'):
        data.write_text(row + data.read_text())
        space = Workspace(terms)
        tokens, _ = space.examples(16)
        names.append(key_of(b"", 1.0, space.layout, rows_below(state, 1), 1, tokens))
        keys.append(round_key(job, plan, tokens))
    assert names[0] != names[1] and keys[0] != keys[1]
