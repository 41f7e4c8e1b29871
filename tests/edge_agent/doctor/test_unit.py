"""What systemd prints, as recorded; the real one is in the virtual machine (`tests/system/test_vm.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.doctor.unit import judge, unit

RUNNING = {
    "LoadState": "loaded", "ActiveState": "active", "Result": "success", "StatusText": "training", "NRestarts": "2",
    "MemoryHigh": "369098752", "MemoryMax": "402653184",
}  # fmt: skip


def test_without_systemd_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert unit(tmp_path, 2**28).found == "no systemd runs here"


def test_a_unit_that_runs_is_told_with_its_limits() -> None:
    found = judge(RUNNING, 2**28)
    assert found.level == "ok"
    assert found.found == "active, training; MemoryHigh 369098752, MemoryMax 402653184; restarted 2 times"


@pytest.mark.parametrize(
    ("told", "budget_bytes", "words"),
    [
        ({"LoadState": "not-found"}, None, "there is no rankfleet-agent.service"),
        ({"ActiveState": "failed", "Result": "exit-code"}, None, "failed (exit-code)"),
        ({"MemoryMax": "infinity"}, None, "no limit of memory"),
        ({}, 2**30, "less than the budget of 1073741824 bytes"),
    ],
)
def test_what_is_amiss_is_told_with_a_remedy(told: dict[str, str], budget_bytes: int | None, words: str) -> None:
    found = judge({**RUNNING, **told}, budget_bytes)
    assert found.level == "warning" and words in found.found and found.remedy


def test_a_systemd_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unit(tmp_path, None).level == "warning"
