from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config import AgentConfig
from edge_agent.doctor.privacy import privacy
from edge_agent.wire.settings import BrokerSettings


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that lets everybody through, as pytest's own do not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def settings(folder: Path) -> AgentConfig:
    (folder / "state").mkdir()
    (folder / "texts.jsonl").write_text("{}")
    return AgentConfig("pi-1", "f", folder / "texts.jsonl", folder / "state", BrokerSettings())


def test_what_everybody_can_read_is_told(settings: AgentConfig) -> None:
    settings.data.chmod(0o644)
    found = privacy(settings)
    assert found.level == "warning" and "everybody" in found.found and "chmod 0640" in found.remedy


def test_a_folder_that_lets_nobody_through_is_as_good(settings: AgentConfig, folder: Path) -> None:
    settings.data.chmod(0o644)
    folder.chmod(0o750)
    assert privacy(settings).level == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to groups")
def test_another_group_than_the_agents_is_told(settings: AgentConfig) -> None:
    settings.data.chmod(0o640)
    os.chown(settings.data, -1, 4242)
    assert "the group 4242" in privacy(settings).found
    os.chown(settings.state_dir, -1, 4242)
    assert privacy(settings).level == "ok"


def test_a_private_file_is_private(settings: AgentConfig) -> None:
    settings.data.chmod(0o600)
    assert privacy(settings).level == "ok"
    settings.data.unlink()
    assert "nothing to be read" in privacy(settings).found
