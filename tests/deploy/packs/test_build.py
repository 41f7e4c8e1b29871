from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.packs import build
from deploy.packs.build import build_pack
from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import INT8_FILES, MANIFEST, TOKENIZER, WEIGHTS, load_manifest, verify
from tests.models import BLOCKS, D_MODEL, tiny_model, tiny_pack, tiny_source


@pytest.fixture
def pack_dir(tmp_path: Path) -> Path:
    """A copy that can be spoilt."""
    shutil.copytree(tiny_pack(), tmp_path / "pack")
    return tmp_path / "pack"


@pytest.fixture
def no_building(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(build, "read_source", fail)
    yield


def test_a_pack_verifies_and_describes_its_model() -> None:
    manifest = verify(tiny_pack())
    assert (manifest.architecture, manifest.pooling, manifest.d_model) == ("bert", "mean", D_MODEL)
    assert (manifest.blocks, manifest.heads, manifest.vocabulary, manifest.max_tokens) == (BLOCKS, 4, 64, 64)
    assert len(manifest.modules) == 6 * BLOCKS
    first, last = manifest.modules[0], manifest.modules[-1]
    assert (first.name, first.block, first.d_in, first.d_out) == ("encoder.layer.0.attention.self.query", 0, 32, 32)
    assert (last.name, last.block, last.d_in, last.d_out) == ("encoder.layer.2.output.dense", BLOCKS - 1, 48, 32)


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        ("bert", "pooler"),
        ("roberta", "pooler"),
        ("mpnet", "pooler"),
        ("distilbert", "mean"),
        ("llama", "last"),
        ("gpt2", "last"),
    ],
)
def test_what_is_no_sentence_encoder_is_pooled_as_transformers_does(family: str, pooling: str) -> None:
    manifest = verify(tiny_pack("int8", family, sentence=False))
    assert (manifest.architecture, manifest.pooling) == (family, pooling)
    assert manifest.causal == (pooling == "last")


def test_a_pack_holds_its_files_and_nothing_else() -> None:
    assert {path.name for path in tiny_pack().iterdir()} == INT8_FILES | {MANIFEST}
    assert (tiny_pack() / TOKENIZER).read_bytes() == (tiny_source(tiny_pack()) / TOKENIZER).read_bytes()


@pytest.mark.usefixtures("no_building")
def test_an_intact_pack_of_the_same_model_is_kept(pack_dir: Path) -> None:
    assert build_pack(tiny_source(tiny_pack()), pack_dir) == load_manifest(pack_dir)


@pytest.mark.usefixtures("no_building")
def test_a_damaged_pack_is_built_again(pack_dir: Path) -> None:
    (pack_dir / WEIGHTS).write_bytes(b"")
    with pytest.raises(AssertionError, match="built again"):
        build_pack(tiny_source(tiny_pack()), pack_dir)


@pytest.mark.usefixtures("no_building")
def test_a_pack_of_other_weights_is_built_again(pack_dir: Path) -> None:
    with pytest.raises(AssertionError, match="built again"):
        build_pack(tiny_source(tiny_pack()), pack_dir, weights="fp16")


def test_building_again_replaces_the_pack_with_the_same_bytes(pack_dir: Path) -> None:
    before = load_manifest(pack_dir)
    (pack_dir / WEIGHTS).write_bytes(b"")
    assert build_pack(tiny_source(tiny_pack()), pack_dir) == before == verify(pack_dir)
    assert [path.name for path in pack_dir.parent.iterdir()] == ["pack"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("final")
    with pytest.raises(PackError, match="something else"):
        build_pack(tiny_source(tiny_pack()), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "final"


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    model_dir = tiny_model(tmp_path / "model")
    monkeypatch.setattr(build, "forward_graph", fail)
    with pytest.raises(OSError, match="No space"):
        build_pack(model_dir, tmp_path / "out" / "pack")
    assert list((tmp_path / "out").iterdir()) == []
