"""What a configuration asks of the board, on this machine: a real disk, the real engine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import AgentConfig, MemorySettings
from edge_agent.doctor import service
from edge_agent.wire.pack import FORWARD
from edge_agent.wire.settings import BrokerSettings
from tests.brokers import PASSWORD, free_port
from tests.models import tiny_pack


@pytest.fixture
def settings(tmp_path: Path) -> AgentConfig:
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "texts.jsonl").write_text('{"text": "a", "label": "b"}\n')
    broker = BrokerSettings(port=free_port(), password_file=tmp_path / "password")
    return AgentConfig("pi-1", "f", tmp_path / "texts.jsonl", tmp_path / "state", broker)


def changed(settings: AgentConfig, **fields: object) -> AgentConfig:
    return msgspec.structs.replace(settings, **fields)


def test_a_disk_is_looked_at_where_the_state_will_be(settings: AgentConfig, tmp_path: Path) -> None:
    found = service.disk(changed(settings, state_dir=tmp_path / "not" / "yet" / "there"))
    assert str(tmp_path) in found.found
    assert list(tmp_path.glob(".rankfleet*")) == []


def test_little_room_is_too_little(settings: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    for limit_bytes in (2**62, 0):
        monkeypatch.setattr(service, "LEAST_DISK_BYTES", limit_bytes)
        monkeypatch.setattr(service, "AMPLE_DISK_BYTES", 2**62)
        levels.append(service.disk(settings).level)
    assert levels == ["failure", "warning"]


def test_a_folder_that_cannot_be_written_is_a_failure(settings: AgentConfig) -> None:
    found = service.disk(changed(settings, state_dir=Path("/proc")))
    assert found.level == "failure" and "cannot be written" in found.found


def test_a_budget_beyond_what_there_is_is_a_failure(settings: AgentConfig) -> None:
    assert service.budget(settings).level == "ok"
    assert service.budget(changed(settings, memory=MemorySettings(2**60))).level == "failure"


def test_data_that_is_not_there_or_empty_is_a_failure(settings: AgentConfig, tmp_path: Path) -> None:
    assert service.data(settings).level == "ok"
    assert service.data(changed(settings, data=tmp_path / "none")).level == "failure"
    (tmp_path / "empty").touch()
    assert "empty" in service.data(changed(settings, data=tmp_path / "empty")).found


def test_the_engine_loads_the_packs_that_are_there(settings: AgentConfig) -> None:
    shutil.copytree(tiny_pack(), settings.state_dir / "packs" / "0123")
    found = service.engine(settings)
    assert found.level == "ok" and "1 packs loaded" in found.found
    (settings.state_dir / "packs" / "0123" / FORWARD).write_bytes(b"no graph")
    assert service.engine(settings).level == "failure"


def test_an_engine_for_another_processor_is_told_by_its_signal(
    settings: AgentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGILL)})"
    died = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    monkeypatch.setattr(service.subprocess, "run", lambda *_, **__: died)
    found = service.engine(settings)
    assert found.level == "failure" and "signal 4" in found.found
