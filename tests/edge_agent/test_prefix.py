"""What lies below the trained blocks is computed once: the same gradients, and never a wrong one."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch, Float32
from edge_agent.examples import Tokens, make_batch
from edge_agent.prefix import FrozenPrefix, PrefixCache, key_of, pays
from edge_agent.trainer import Work, train
from edge_agent.watch import Footing
from edge_agent.wire.ranks import HEAD, Rows, compact
from edge_agent.wire.state import ModelState
from edge_agent.workspace import Workspace, rows_below
from tests.agents import TRAINING, make_terms
from tests.models import BLOCKS, D_MODEL
from tests.runs import make_state

LENGTHS = (3, 9, 1, 7)
LIMIT_BYTES = 10**6
STATE_BYTES = 4 * D_MODEL
"""Of one token."""


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(make_terms(tmp_path, prefix_limit_bytes=LIMIT_BYTES))


class Counting:
    """Counts the examples whose prefix an engine computes."""

    def __init__(self, engine: BlockwiseEngine) -> None:
        self._engine = engine
        self.examples = 0

    def hidden(self, batch: Batch, rows: Rows, **how: Any) -> Float32:
        self.examples += len(batch.input_ids)
        return self._engine.hidden(batch, rows, **how)


def states_of(place: int) -> Float32:
    return np.random.default_rng(place).standard_normal((LENGTHS[place], D_MODEL)).astype(np.float32)


def filled(folder: Path, limit_bytes: int = LIMIT_BYTES, key: str = "key") -> PrefixCache:
    cache = PrefixCache(folder, key, LENGTHS, D_MODEL, limit_bytes)
    for place in range(len(LENGTHS)):
        cache.write(place, states_of(place))
    return cache


def kept(cache: PrefixCache) -> list[int]:
    """The places that the cache has; what it has is right."""
    found = [(place, cache.read(place)) for place in range(len(LENGTHS))]
    assert all((states == states_of(place)).all() for place, states in found if states is not None)
    return [place for place, states in found if states is not None]


def test_what_was_written_is_read_after_a_restart(tmp_path: Path) -> None:
    assert kept(filled(tmp_path)) == [0, 1, 2, 3]
    assert kept(PrefixCache(tmp_path, "key", LENGTHS, D_MODEL, LIMIT_BYTES)) == [0, 1, 2, 3]


def test_what_was_not_written_is_not_there(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "key", LENGTHS, D_MODEL, LIMIT_BYTES)
    cache.write(2, states_of(2))
    assert kept(cache) == [2]


def test_another_key_finds_nothing_and_leaves_nothing_of_the_last(tmp_path: Path) -> None:
    filled(tmp_path)
    assert kept(PrefixCache(tmp_path, "other", LENGTHS, D_MODEL, LIMIT_BYTES)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@given(limit_bytes=st.integers(0, 25 * STATE_BYTES))
def test_the_limit_is_kept(tmp_path_factory: pytest.TempPathFactory, limit_bytes: int) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = filled(folder, limit_bytes)
    assert (folder / "key").stat().st_size <= limit_bytes
    assert kept(cache) == list(range(len(kept(cache)))), "the first examples are those that are kept"
    cache.close()


@given(data=st.data())
def test_a_damaged_file_gives_nothing_wrong(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cache")
    filled(folder).close()
    body = bytearray((folder / "key").read_bytes())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    (folder / "key").write_bytes(body[: data.draw(st.integers(at, len(body)))])
    cache = PrefixCache(folder, "key", LENGTHS, D_MODEL, LIMIT_BYTES)
    assert len(kept(cache)) < len(LENGTHS)
    cache.close()


def test_a_full_disk_or_a_folder_that_cannot_be_used_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert kept(filled(tmp_path / "full")) == []
    (tmp_path / "file").write_bytes(b"")
    assert kept(filled(tmp_path / "file")) == []


@pytest.mark.parametrize("block", range(1, BLOCKS + 1))
def test_gradients_are_the_same_with_and_without(space: Workspace, block: int) -> None:
    state, tokens = make_state(1), space.examples(space.max_tokens)[0]
    rows = compact(space.layout, state.rows, state.mask)
    batch = make_batch(tokens, range(8), space.tokeniser(space.max_tokens))
    frozen = prefix_of(space, state, tokens, block)
    for _ in range(2):  # computed, and then read
        given_prefix = frozen.of(batch, range(8))
        one, other = (space.engine.step(b, rows, lowest_block=block, micro_batch=3) for b in (batch, given_prefix))
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert one.rows.keys() == other.rows.keys()
        for name, gradient in one.rows.items():
            assert np.allclose(gradient, other.rows[name], rtol=1e-4, atol=1e-6), name


def prefix_of(space: Workspace, state: ModelState, tokens: Tokens, block: int) -> FrozenPrefix:
    lengths = [len(ids) for ids in tokens.ids]
    cache = PrefixCache(Path(space.terms.store).parent / "p", "key", lengths, D_MODEL, LIMIT_BYTES)
    return FrozenPrefix(space.engine, rows_below(state, block), block, 2, cache)


def test_each_example_is_computed_once(space: Workspace) -> None:
    state, tokens = make_state(1), space.examples(space.max_tokens)[0]
    assert isinstance(space.engine, BlockwiseEngine)
    counting: Any = Counting(space.engine)
    frozen = replace(prefix_of(space, state, tokens, 1), engine=counting)
    for chosen in ([0, 1, 2], [2, 1, 3], [3, 0]):
        frozen.of(make_batch(tokens, chosen, space.tokeniser(space.max_tokens)), chosen)
    assert counting.examples == 4


def test_a_round_learns_the_same_with_and_without(space: Workspace) -> None:
    state, tokens = make_state(1), space.examples(space.max_tokens)[0]
    training = msgspec.structs.replace(TRAINING, local_steps=6)
    plain = Work(state.mask, tokens, space.tokeniser(space.max_tokens), training, 7, ("pi-1", 1))
    outcomes = []
    for prefix in (None, prefix_of(space, state, tokens, 2)):
        watch: Any = Still()
        work = replace(plain, prefix=prefix)
        outcomes.append(train(space.engine, state, work, Footing(4, 2), watch, lambda *_: None).rows)
    for name, table in outcomes[0].items():
        assert np.allclose(table, outcomes[1][name], atol=1e-4), name


class Still:
    """A watch that changes nothing."""

    def after_step(self, footing: Footing) -> Footing:
        return footing


def test_the_key_follows_all_that_the_states_depend_on(space: Workspace) -> None:
    state, tokens = make_state(1), space.examples(space.max_tokens)[0]
    below = rows_below(state, 2)

    def key(pack: bytes = b"pack", scale: float = 1.0, rows: Rows = below, block: int = 2, of: Tokens = tokens) -> str:
        return key_of(pack, scale, space.layout, rows, block, of)

    name = next(m.name for m in space.layout.modules if m.block == 1 and len(below[m.name]))
    changed = {**below, name: below[name] + np.float32(1e-6)}
    cut = replace(tokens, ids=(tokens.ids[0][:-1], *tokens.ids[1:]))
    others = [key(pack=b"other"), key(scale=2.0), key(rows=changed), key(block=1), key(of=cut)]
    assert len({key(), *others}) == 1 + len(others)
    assert key() == key(rows={**below, HEAD: below[HEAD] + 1})


def test_a_rank_below_that_changed_makes_another_prefix(space: Workspace) -> None:
    state, tokens = make_state(1), space.examples(space.max_tokens)[0]
    before = space.prefix(state, tokens, 2, 1)
    assert before is None, "an epoch sees each example once, and ranks below may change with every round"
    seen_twice = more_steps(space)
    first = seen_twice.prefix(state, tokens, 2, 1)
    assert first is not None
    chosen = list(range(4))
    batch = make_batch(tokens, chosen, space.tokeniser(space.max_tokens))
    first.of(batch, chosen)
    other = make_state(1)
    name = next(m.name for m in space.layout.modules if m.block == 0 and len(first.rows[m.name]))
    other.rows[name] += np.float32(0.5)
    second = seen_twice.prefix(other, tokens, 2, 1)
    assert second is not None
    assert [second.cache.read(place) for place in chosen] == [None] * 4


def more_steps(space: Workspace) -> Workspace:
    training = msgspec.structs.replace(space.welcome.training, local_steps=50)
    welcome = msgspec.structs.replace(space.welcome, training=training)
    return Workspace(msgspec.structs.replace(space.terms, welcome=welcome))


def test_it_pays_where_it_is_used_again(space: Workspace) -> None:
    living = rows_below(make_state(1), 1)
    none = {name: table[:0] for name, table in living.items()}
    for rows, block, seen, expected in (
        (living, 1, 30, False), (living, 1, 31, True), (none, 1, 30, True), (none, 0, 99, False),
    ):  # fmt: skip
        assert pays(space.layout, rows, block, examples=30, seen=seen) is expected


def test_without_a_limit_nothing_is_kept(tmp_path: Path) -> None:
    space = more_steps(Workspace(make_terms(tmp_path)))
    state, tokens = make_state(1), space.examples(space.max_tokens)[0]
    assert space.prefix(state, tokens, 2, 1) is None
    assert not (tmp_path / "prefix").exists()
