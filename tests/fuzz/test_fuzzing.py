"""Five minutes of fuzzing with atheris, over all targets."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import fuzz_decoders
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300
PATIENCE_S = 3600

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it has wheels for Linux on x86-64 only",
)


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
def test_fuzzing_finds_nothing(tmp_path: Path) -> None:
    # In a process between: Linux lets a process begin with the peak RSS of the one that started it.
    options = ("--seconds", str(SECONDS), "--seed", "1", "--findings", str(tmp_path))
    command = [sys.executable, "-m", "tests.fuzz.fuzz_decoders", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not list(tmp_path.iterdir()), done.stdout + done.stderr
    assert all(f"| {name} | " in done.stdout for name in TARGETS)


def test_memory_over_the_cap_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz_decoders, "RSS_LIMIT_MB", 10)
    assert fuzz_decoders.main(["--target", "mask", "--runs", "100", "--seed", "1", "--findings", str(tmp_path)]) == 1
    assert "| all | " in capsys.readouterr().out
