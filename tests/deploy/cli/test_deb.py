"""`rankfleet deploy deb` as typed: what it refuses. What it builds is in tests/system/test_deb.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli.main import main


def test_a_target_that_no_package_is_made_for_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "deb", "--target", "mips", "--out", str(tmp_path)]) == 1
    assert "expected a target of aarch64, x86_64 and a Python of" in capsys.readouterr().err


def test_a_python_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "deb", "--python", "three", "--out", str(tmp_path)]) == 1
    assert "got aarch64 and three: 'uname -m'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_to_write_to_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["deploy", "deb"])
    assert "--out" in capsys.readouterr().err
