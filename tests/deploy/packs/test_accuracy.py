"""What a pack costs in accuracy, measured on the tiny model, whose texts tell their class by a word."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from deploy.datasets import Dataset
from deploy.packs import accuracy
from deploy.packs.accuracy import GRADIENT_BATCHES, Options, compare, cosine, measure_pack
from deploy.packs.build import build_pack
from edge_agent.data import Example
from edge_agent.wire.errors import ConfigError, EngineError, PackError
from edge_agent.wire.pack import MANIFEST, WEIGHTS, AccuracyEntry, load_manifest, verify
from edge_agent.wire.ranks import HEAD
from tests.models import TOKENS, tiny_model, tiny_pack, tiny_source

CLASSES = ("even", "odd")
OPTIONS = Options(steps=3, seeds=2, batch_size=4, micro_batch=2, max_tokens=8, test_limit=6, threads=1)


def make_data(name: str = "parity") -> Dataset:
    rows = [Example(f"word{index % 2} word{2 + index % 2} word{index % 50}", CLASSES[index % 2]) for index in range(24)]
    return Dataset(name, rows[:16], rows[16:], CLASSES)


def silent(_: str) -> None:
    """Says nothing."""


@pytest.fixture(autouse=True)
def built_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building takes seconds, and what is built is tested elsewhere."""
    monkeypatch.setattr(accuracy, "build_pack", lambda _, out, *, weights: shutil.copytree(tiny_pack(weights), out))


@pytest.fixture
def pack_dir(tmp_path: Path) -> Path:
    """A copy that can be written to."""
    shutil.copytree(tiny_pack(), tmp_path / "pack")
    return tmp_path / "pack"


def measure(pack_dir: Path, data: Dataset | None = None, options: Options = OPTIONS) -> tuple[AccuracyEntry, ...]:
    return measure_pack(pack_dir, tiny_source(tiny_pack()), data or make_data(), options, silent).accuracy


def test_a_pack_beside_itself_costs_nothing() -> None:
    pack_dir = tiny_pack("fp32")
    (entry,) = compare(pack_dir, pack_dir, make_data(), OPTIONS, silent)
    for cosines in (entry.at_start, entry.after_training):
        assert (cosines.median, cosines.worst) == pytest.approx((1.0, 1.0))
    assert entry.accuracies == entry.reference_accuracies
    assert len(entry.accuracies) == OPTIONS.seeds


def test_an_int8_pack_is_measured_with_both_products_and_others_with_one() -> None:
    reference = tiny_pack("fp32")
    int8 = compare(reference, tiny_pack("int8"), make_data(), OPTIONS, silent)
    assert [one.products for one in int8] == ["float32", "int8"]
    exact, rounded = int8
    assert exact.reference_accuracies == rounded.reference_accuracies
    assert rounded.at_start.median < exact.at_start.median < 1
    (fp16,) = compare(reference, tiny_pack("fp16"), make_data(), OPTIONS, silent)
    assert fp16.products == "float32"
    assert exact.at_start.worst < fp16.at_start.worst


def test_gradients_are_compared_on_every_batch_of_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(accuracy, "cosine", lambda *_: seen.append(1.0) or 1.0)
    compare(tiny_pack("fp32"), tiny_pack("fp32"), make_data(), OPTIONS, silent)
    assert len(seen) == 2 * OPTIONS.seeds * GRADIENT_BATCHES


def test_what_was_measured_is_read_back_and_the_rest_of_the_manifest_stays(pack_dir: Path) -> None:
    before = load_manifest(pack_dir)
    assert before.accuracy == ()
    entries = measure(pack_dir)
    assert verify(pack_dir) == msgspec.structs.replace(before, accuracy=entries)
    assert entries[0].dataset == "parity"
    assert entries[0].test_examples == OPTIONS.test_limit
    assert {path.name for path in pack_dir.iterdir()} == {*before.files, MANIFEST}


def test_measuring_again_replaces_the_same_and_keeps_the_others(pack_dir: Path) -> None:
    short = dataclasses.replace(OPTIONS, steps=1, seeds=1)
    first = measure(pack_dir, make_data("one"), short)
    alone = measure(pack_dir, make_data("one"), dataclasses.replace(short, micro_batch=1))
    assert alone[:2] == first
    again = measure(pack_dir, make_data("one"), dataclasses.replace(short, steps=2))
    assert [(one.micro_batch, one.steps) for one in again] == [(1, 1), (1, 1), (2, 2), (2, 2)]
    assert [one.dataset for one in measure(pack_dir, make_data("two"), short)] == ["one"] * 4 + ["two"] * 2


def test_building_again_keeps_a_measured_pack(pack_dir: Path) -> None:
    before = load_manifest(pack_dir)
    measured = measure_pack(pack_dir, tiny_source(tiny_pack()), make_data(), OPTIONS, silent)
    assert measured.accuracy
    assert build_pack(tiny_source(tiny_pack()), pack_dir) == measured == load_manifest(pack_dir) != before


def test_cosine_is_of_the_ranks_alone() -> None:
    one = {"a": np.array([[1.0, 0.0]], np.float32), "b": np.array([[0.0]], np.float32), HEAD: np.ones((1, 1), "f4")}
    other = {"b": np.array([[2.0]], np.float32), "a": np.array([[2.0, 0.0]], np.float32), HEAD: -np.ones((1, 1), "f4")}
    assert cosine(one, one) == 1
    assert cosine(one, other) == pytest.approx(0.5**0.5)


def test_a_gradient_of_zero_has_no_direction() -> None:
    rows = {"a": np.zeros((1, 2), np.float32)}
    with pytest.raises(EngineError, match="zero"):
        cosine(rows, rows)


def test_an_altered_pack_is_refused(pack_dir: Path) -> None:
    (pack_dir / WEIGHTS).write_bytes((pack_dir / WEIGHTS).read_bytes()[:-1] + b"x")
    with pytest.raises(PackError, match=WEIGHTS):
        measure(pack_dir)


def test_a_model_that_the_pack_was_not_built_from_is_refused(pack_dir: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other", vocabulary=("one", "two"))
    for folder in (other, tmp_path / "nowhere"):
        with pytest.raises(PackError, match=f"was not built from {folder}"):
            measure_pack(pack_dir, folder, make_data(), OPTIONS, silent)


def test_longer_texts_than_the_model_takes_are_refused(pack_dir: Path) -> None:
    with pytest.raises(ConfigError, match=f"takes {TOKENS} tokens at most, got {TOKENS + 1}"):
        measure(pack_dir, options=dataclasses.replace(OPTIONS, max_tokens=TOKENS + 1))


def test_a_pack_that_changes_meanwhile_is_left_alone(pack_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = msgspec.structs.replace(load_manifest(pack_dir), model="another")

    def replaces(*_: object) -> tuple[AccuracyEntry, ...]:
        (pack_dir / MANIFEST).write_bytes(msgspec.json.encode(changed))
        return ()

    monkeypatch.setattr(accuracy, "compare", replaces)
    with pytest.raises(PackError, match="replaced while it was measured"):
        measure(pack_dir)
    assert load_manifest(pack_dir) == changed


def test_a_manifest_that_cannot_be_written_is_an_error_and_the_old_one_stays(
    pack_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_manifest(pack_dir)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(PackError, match="No space left"):
        measure(pack_dir, options=dataclasses.replace(OPTIONS, steps=1, seeds=1))
    assert load_manifest(pack_dir) == before
