"""The merged model computes what the agents' engine computes, as one file of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.export import export_merged, export_run
from deploy.folders import COORDINATOR_DB
from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch
from edge_agent.wire import state as states
from edge_agent.wire.errors import ConfigError, PackError, StoreError
from edge_agent.wire.pack import MANIFEST, TOKENIZER, load_manifest, module_layout
from edge_agent.wire.ranks import compact
from edge_agent.wire.state import ModelState
from tests.models import FAMILIES, tiny_pack
from tests.runs import CLASSES, SLOTS, make_config, make_run, make_state, start_run

SCALE = 0.7
MODEL_TOKENS = 64


def pooled_by(pooling: str, folder: Path) -> Path:
    """The tiny pack with another pooling: its weights hold the model's pooler, which a sentence encoder leaves out."""
    pack_dir = folder / f"pack-{pooling}"
    shutil.copytree(tiny_pack(), pack_dir)
    manifest = msgspec.structs.replace(load_manifest(pack_dir), pooling=pooling)
    (pack_dir / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return pack_dir


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def make_batch(lengths: list[int]) -> Batch:
    generator = np.random.default_rng(len(lengths))
    mask = (np.arange(max(lengths))[None, :] < np.array(lengths)[:, None]).astype(np.int32)
    return Batch(generator.integers(4, 64, mask.shape, dtype=np.int32) * mask, mask)


def logits(exported: onnxruntime.InferenceSession, batch: Batch) -> np.ndarray:
    feeds = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    return exported.run(["logits"], {name: array.astype(np.int64) for name, array in feeds.items()})[0]


def expected(pack_dir: Path, state: ModelState, batch: Batch) -> np.ndarray:
    engine = BlockwiseEngine(pack_dir, state.layout, threads=1, scale=SCALE)
    return engine.logits(batch, compact(state.layout, state.rows, state.mask), micro_batch=2)


@pytest.fixture(scope="module", params=["mean", "cls", "pooler"])
def pack_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pooled_by(request.param, tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def exported(pack_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("merged") / "model.onnx"
    export_merged(pack_dir, make_state(7), classes=CLASSES, scale=SCALE, out=out)
    return out


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_logits_are_those_of_the_agents_engine(pack_dir: Path, exported: Path, lengths: list[int]) -> None:
    batch = make_batch(lengths)
    got = logits(session(exported), batch)
    np.testing.assert_allclose(got, expected(pack_dir, make_state(7), batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_exported_as_it_was_trained(tmp_path: Path, family: str) -> None:
    pack_dir, batch = tiny_pack("int8", family, sentence=False), make_batch([4, 9, 1])
    layout = module_layout(load_manifest(pack_dir), SLOTS, len(CLASSES))
    generator = np.random.default_rng(0)
    rows = {name: generator.normal(0, 0.2, table.shape) for name, table in layout.empty_rows().items()}
    state = ModelState(layout, 1, layout.full_mask(), {name: table.astype(np.float32) for name, table in rows.items()})
    export_merged(pack_dir, state, classes=CLASSES, scale=SCALE, out=tmp_path / "model.onnx")
    got = logits(session(tmp_path / "model.onnx"), batch)
    np.testing.assert_allclose(got, expected(pack_dir, state, batch), rtol=1e-4, atol=1e-4)


def test_the_adapters_matter(tmp_path: Path, exported: Path) -> None:
    state = make_state(7)
    bare = ModelState(
        state.layout, 7, np.zeros_like(state.mask), {**state.layout.empty_rows(), "head": state.rows["head"]}
    )
    export_merged(tiny_pack(), bare, classes=CLASSES, scale=SCALE, out=tmp_path / "bare.onnx")
    batch = make_batch([5, 9])
    assert np.abs(logits(session(tmp_path / "bare.onnx"), batch) - logits(session(exported), batch)).max() > 0.1


def test_a_seed_state_is_the_pretrained_model(tmp_path: Path) -> None:
    layout = module_layout(load_manifest(tiny_pack()), SLOTS, len(CLASSES))
    export_merged(tiny_pack(), states.seed_state(layout, 0), classes=CLASSES, scale=SCALE, out=tmp_path / "model.onnx")
    batch = make_batch([3])
    got = logits(session(tmp_path / "model.onnx"), batch)
    np.testing.assert_allclose(got, expected(tiny_pack(), states.seed_state(layout, 0), batch), rtol=1e-4, atol=1e-4)


def test_weights_that_need_no_expanding_are_exported_too(tmp_path: Path) -> None:
    pack_dir, batch = tiny_pack("fp32"), make_batch([4, 7])
    export_merged(pack_dir, make_state(1), classes=CLASSES, scale=SCALE, out=tmp_path / "model.onnx")
    want = expected(pack_dir, make_state(1), batch)
    np.testing.assert_allclose(logits(session(tmp_path / "model.onnx"), batch), want, rtol=1e-4, atol=1e-4)


def test_the_file_is_whole_and_plain(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert [entry.domain for entry in model.opset_import] == [""]
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    assert not [name for name in used if "adapter" in name]


def test_batch_and_tokens_are_dynamic(exported: Path) -> None:
    inputs = {entry.name: (entry.type, entry.shape) for entry in session(exported).get_inputs()}
    assert inputs == dict.fromkeys(("input_ids", "attention_mask"), ("tensor(int64)", ["batch", "tokens"]))
    assert session(exported).get_outputs()[0].shape == ["batch", len(CLASSES)]


def test_the_metadata_say_how_to_use_it(exported: Path) -> None:
    about = session(exported).get_modelmeta().custom_metadata_map
    assert tuple(json.loads(about.pop("classes"))) == CLASSES
    assert about == {"max_tokens": str(MODEL_TOKENS), "model": "model", "version": "7", "pad_token_id": "0"}


@pytest.mark.parametrize(("asked", "written"), [(16, 16), (4096, MODEL_TOKENS)])
def test_texts_are_cut_where_training_cut_them(tmp_path: Path, asked: int, written: int) -> None:
    out = tmp_path / "model.onnx"
    export_merged(tiny_pack(), make_state(1), classes=CLASSES, scale=SCALE, out=out, max_tokens=asked)
    assert session(out).get_modelmeta().custom_metadata_map["max_tokens"] == str(written)


def test_a_state_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="with 2 classes"):
        export_merged(tiny_pack(), make_state(1), classes=CLASSES[:2], scale=SCALE, out=tmp_path / "model.onnx")


def test_a_model_too_large_for_one_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.checker, "MAXIMUM_PROTOBUF", 100_000)
    with pytest.raises(PackError, match="one ONNX file holds 100000"):
        export_merged(tiny_pack(), make_state(1), classes=CLASSES, scale=SCALE, out=tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_altered_pack_is_refused(tmp_path: Path) -> None:
    pack_dir = pooled_by("mean", tmp_path)
    (pack_dir / "forward.onnx").write_bytes(b"")
    with pytest.raises(PackError, match=r"forward\.onnx"):
        export_merged(pack_dir, make_state(1), classes=CLASSES, scale=SCALE, out=tmp_path / "model.onnx")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="cannot be written"):
        export_merged(tiny_pack(), make_state(1), classes=CLASSES, scale=SCALE, out=tmp_path / "taken" / "model.onnx")
    assert (tmp_path / "taken").read_text() == "a file, not a folder"


def test_an_export_replaces_the_one_before(tmp_path: Path) -> None:
    for version in (1, 2):
        export_merged(tiny_pack(), make_state(version), classes=CLASSES, scale=SCALE, out=tmp_path / "model.onnx")
    assert session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map["version"] == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_run_is_exported_from_its_folder_alone(tmp_path: Path) -> None:
    run_dir, state, batch = make_run(make_config(tmp_path / "run"), make_state(3)), make_state(3), make_batch([6, 2])
    done = export_run(run_dir, tmp_path / "merged" / "model.onnx")
    assert done == ("model", 3, (tmp_path / "merged" / "model.onnx").stat().st_size)
    got = logits(session(tmp_path / "merged" / "model.onnx"), batch)
    np.testing.assert_allclose(got, expected(tiny_pack(), state, batch), rtol=1e-4, atol=1e-4)
    assert (tmp_path / "merged" / TOKENIZER).read_bytes() == (tiny_pack() / TOKENIZER).read_bytes()
    about = session(tmp_path / "merged" / "model.onnx").get_modelmeta().custom_metadata_map
    assert (about["max_tokens"], about["version"]) == ("16", "3")


def test_a_moved_pack_is_named(tmp_path: Path) -> None:
    shutil.copytree(tiny_pack(), tmp_path / "pack")
    run_dir = make_run(make_config(tmp_path / "run", tmp_path / "pack"), make_state(1))
    (tmp_path / "pack").rename(tmp_path / "moved")
    with pytest.raises(PackError, match="--pack"):
        export_run(run_dir, tmp_path / "model.onnx")
    assert export_run(run_dir, tmp_path / "model.onnx", pack_dir=tmp_path / "moved").version == 1


def test_another_pack_is_refused_though_its_shapes_fit(tmp_path: Path) -> None:
    run_dir = make_run(make_config(tmp_path / "run"), make_state(1))
    with pytest.raises(PackError, match="not the pack that the run was made with"):
        export_run(run_dir, tmp_path / "model.onnx", pack_dir=pooled_by("cls", tmp_path))


def test_another_models_tokenizer_is_never_overwritten(tmp_path: Path) -> None:
    run_dir = make_run(make_config(tmp_path / "run"), make_state(1))
    (tmp_path / TOKENIZER).write_text("{}")
    with pytest.raises(ConfigError, match="another model's tokenizer"):
        export_run(run_dir, tmp_path / "model.onnx")
    assert (tmp_path / TOKENIZER).read_text() == "{}"


def test_a_run_without_a_closed_round_has_no_model(tmp_path: Path) -> None:
    start_run(make_config(tmp_path))
    with pytest.raises(StoreError, match="no model yet"):
        export_run(tmp_path, tmp_path / "model.onnx")


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=COORDINATOR_DB):
        export_run(tmp_path, tmp_path / "model.onnx")


def test_export_leaves_torch_out() -> None:
    code = "import sys, deploy.export; sys.exit(bool({'torch', 'transformers', 'amqtt'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
