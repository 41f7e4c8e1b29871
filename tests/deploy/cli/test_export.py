"""`rankfleet export` as a script sees it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy.cli.main import main
from tests.runs import make_config, make_run, make_state


def test_writes_the_model_and_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir, out = make_run(make_config(tmp_path / "run"), make_state(2)), tmp_path / "out" / "model.onnx"
    assert main(["export", str(run_dir), str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: model after 2 rounds, ")
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.onnx", "tokenizer.json"]


def test_a_folder_without_a_run_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), str(tmp_path / "model.onnx")]) == 1
    assert capsys.readouterr().err.startswith(f"rankfleet: {tmp_path} is no run folder")


def test_without_onnx_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "deploy.export", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(tmp_path), str(tmp_path / "model.onnx")]) == 1
    assert "rankfleet[pack]" in capsys.readouterr().err
