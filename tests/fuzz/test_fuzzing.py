"""Five minutes of fuzzing with atheris, over all targets."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz import fuzz_decoders
from tests.fuzz.targets import TARGETS

SECONDS = 300
PATIENCE_S = 3600

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it has wheels for Linux on x86-64 only",
)


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
def test_fuzzing_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = fuzz_decoders.main(["--seconds", str(SECONDS), "--seed", "1", "--findings", str(tmp_path)])
    table = capsys.readouterr().out
    assert status == 0 and not list(tmp_path.iterdir()), table
    assert all(f"| {name} | " in table for name in TARGETS)


def test_memory_over_the_cap_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz_decoders, "RSS_LIMIT_MB", 10)
    assert fuzz_decoders.main(["--target", "mask", "--runs", "100", "--seed", "1", "--findings", str(tmp_path)]) == 1
    assert "| all | " in capsys.readouterr().out
