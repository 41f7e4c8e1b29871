"""`rankfleet predict` as a person and as a script see it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from deploy.cli.main import main
from deploy.export import export_run
from deploy.folders import MERGED_MODEL
from tests.runs import CLASSES, make_agent, make_config, make_run, make_state


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(make_config(tmp_path_factory.mktemp("run")), make_state(2))
    export_run(folder, folder / MERGED_MODEL)
    make_agent(folder / "agents" / "pi-1" / "state", make_state(2))
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["predict", *arguments]) == 0
    return capsys.readouterr().out


def test_prints_label_probability_and_runners_up(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, answer, by = call(capsys, str(run_dir), "word1 word2").splitlines()
    assert (text, by) == ("word1 word2", "answered by the gateway")
    assert all(name in answer for name in CLASSES)
    assert "then" not in call(capsys, str(run_dir), "word1 word2", "--top", "1")


def test_json_has_the_same_from_an_agent(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = json.loads(call(capsys, str(run_dir), "word1", "word2", "--agent", "pi-1", "--json", "--top", "2"))
    assert printed["answered_by"] == "agent pi-1"
    assert [entry["text"] for entry in printed["answers"]] == ["word1", "word2"]
    for entry in printed["answers"]:
        assert [set(guess) for guess in entry["top"]] == [{"label", "probability"}] * 2
        assert entry["label"] == entry["top"][0]["label"]


def test_reads_standard_input_a_text_a_line(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("word1\nword2 word3\n"))
    printed = json.loads(call(capsys, str(run_dir), "-", "--json"))
    assert [entry["text"] for entry in printed["answers"]] == ["word1", "word2 word3"]


@pytest.mark.parametrize(
    ("arguments", "message"), [(["word1", "--agent", "pi-9"], "it has pi-1"), (["word1", " "], "text 2 of 2 is empty")]
)
def test_errors_say_what_to_do(
    run_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["predict", str(run_dir), *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("top", ["0", "many"])
def test_top_is_a_count(run_dir: Path, capsys: pytest.CaptureFixture[str], top: str) -> None:
    with pytest.raises(SystemExit):
        main(["predict", str(run_dir), "word1", "--top", top])
    assert "--top" in capsys.readouterr().err
