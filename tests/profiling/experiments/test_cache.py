"""The folder of results."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.wire.errors import StoreError
from profiling.experiments import cache
from tests.experiments import make_result, make_run


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    results = [make_result(make_run(seed=seed), 0.1 * seed) for seed in range(3)]
    for result in results:
        assert cache.save(tmp_path / "new", result).name == f"{result.run.key}.json"
    loaded = cache.load_all(tmp_path / "new", pytest.fail)
    assert loaded == {result.run.key: result for result in results}


def test_there_is_nothing_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert cache.load_all(tmp_path / "none", pytest.fail) == {}


def test_a_file_that_holds_no_result_is_told_and_left_alone(tmp_path: Path) -> None:
    good = make_result(make_run())
    path = cache.save(tmp_path, good)
    unfinished = msgspec.structs.replace(good, rounds=good.rounds[:-1])
    others = {
        "cut.json": path.read_bytes()[:100],
        "foreign.json": b'{"rows": []}',
        "empty.json": b"",
        "latin-1.json": b'{"run": "\xe4"}',
        "unfinished.json": msgspec.json.encode(unfinished),
    }
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
    told: list[str] = []
    assert cache.load_all(tmp_path, told.append) == {good.run.key: good}
    assert len(told) == len(others) and all(any(name in line for line in told) for name in others)
    assert all((tmp_path / name).read_bytes() == data for name, data in others.items())


def test_a_setting_that_a_result_does_not_know_has_its_default(tmp_path: Path) -> None:
    result = make_result(make_run())
    tree = msgspec.to_builtins(result)
    del tree["run"]["options"]["training"]["scale"]
    (tmp_path / "older.json").write_bytes(msgspec.json.encode(tree))
    assert cache.load_all(tmp_path, pytest.fail) == {result.run.key: result}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="taken"):
        cache.save(tmp_path / "taken", make_result(make_run()))
