"""The gateway and the agents answer alike, each from what it keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from coordinator.run import DATABASE
from deploy.export import export_run
from deploy.folders import COORDINATOR_DB, MERGED_MODEL
from deploy.predict import GATEWAY, MergedModel, predict
from edge_agent.predict import Answer
from edge_agent.wire.errors import ConfigError, DataError, PackError, StoreError
from edge_agent.wire.pack import TOKENIZER
from tests.runs import CLASSES, make_agent, make_config, make_run, make_state

TEXTS = ["word1 word2 word3", "word4 word7", " ".join(f"word{index}" for index in range(40))]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's folder: a run with its merged model, and two agents, of which one missed the end."""
    run_dir = tmp_path_factory.mktemp("demo")
    make_run(make_config(run_dir), make_state(3))
    export_run(run_dir, run_dir / MERGED_MODEL)
    make_agent(run_dir / "agents" / "pi-1" / "state", make_state(3))
    make_agent(run_dir / "agents" / "pi-2" / "state", None)
    return run_dir


def assert_alike(one: list[Answer], other: list[Answer]) -> None:
    for left, right in zip(one, other, strict=True):
        assert dict(left) == pytest.approx(dict(right), abs=1e-4)


def test_the_gateway_answers_as_an_agent_with_the_same_model_does(demo: Path) -> None:
    gateway, agent = predict(demo, TEXTS), predict(demo, TEXTS, agent="pi-1")
    assert (gateway.by, agent.by) == (GATEWAY, "agent pi-1")
    assert_alike(gateway.answers, agent.answers)


def test_an_agents_state_folder_answers_too(demo: Path) -> None:
    alone = predict(demo / "agents" / "pi-1" / "state", TEXTS)
    assert alone.by == "the agent"
    assert alone.answers == predict(demo, TEXTS, agent="pi-1").answers


def test_the_merged_folder_is_all_that_the_gateway_needs(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    for name in (MERGED_MODEL.name, TOKENIZER):
        (tmp_path / "merged" / name).write_bytes((demo / "merged" / name).read_bytes())
    assert predict(tmp_path, TEXTS) == predict(demo, TEXTS)
    assert MergedModel(tmp_path / MERGED_MODEL).classes == CLASSES


def test_an_unknown_agent_is_answered_with_those_there_are(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no agent 'pi-9': it has pi-1, pi-2"):
        predict(demo, TEXTS, agent="pi-9")
    with pytest.raises(ConfigError, match="it has none"):
        predict(tmp_path, TEXTS, agent="pi-1")


def test_an_agent_without_a_model_says_so(demo: Path) -> None:
    with pytest.raises(StoreError, match="no model yet"):
        predict(demo, TEXTS, agent="pi-2")


def test_a_run_without_a_merged_model_says_how_to_make_it(tmp_path: Path) -> None:
    make_run(make_config(tmp_path), make_state(1))
    with pytest.raises(StoreError, match=f"rankfleet export {tmp_path} {tmp_path / MERGED_MODEL}"):
        predict(tmp_path, TEXTS)


def test_any_other_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder of a run"):
        predict(tmp_path, TEXTS)


@pytest.mark.parametrize("texts", [[], [""], ["word1", "\t"]])
def test_empty_texts_are_refused(demo: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="text"):
        predict(demo, texts)


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / MERGED_MODEL).write_bytes(b"not a model")
    with pytest.raises(PackError, match="export it again"):
        predict(tmp_path, TEXTS)


def test_a_model_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1] x) => (float[1] y) { y = Neg(x) }'
    )
    onnx.save(graph, tmp_path / MERGED_MODEL)
    with pytest.raises(PackError, match="not written by `rankfleet export`"):
        predict(tmp_path, TEXTS)


def test_a_missing_tokenizer_is_named(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / MERGED_MODEL).write_bytes((demo / MERGED_MODEL).read_bytes())
    with pytest.raises(PackError, match=TOKENIZER):
        predict(tmp_path, TEXTS)


def test_the_run_folder_is_the_coordinators() -> None:
    assert COORDINATOR_DB == DATABASE


def test_prediction_leaves_torch_and_onnx_out() -> None:
    code = "import sys, deploy.predict; sys.exit(bool({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
