"""rankfleet's own wheel, as a package for boards carries it. The whole tree is in tests/system/test_deb.py."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from deploy.board.agent_tree import ROOT, build_wheel
from edge_agent.wire.errors import ConfigError


def test_the_wheel_of_this_clone_has_the_agent_and_no_results(tmp_path: Path) -> None:
    before = set(ROOT.iterdir())
    wheel = build_wheel(ROOT, tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    assert {"edge_agent/agent.py", "deploy/cli/main.py"} <= set(names)
    assert not [name for name in names if "benchmark" in name or name.endswith(".pyc")]
    assert set(ROOT.iterdir()) == before
    again = tmp_path / "again"
    again.mkdir()
    assert build_wheel(ROOT, again).read_bytes() == wheel.read_bytes()


def test_what_is_no_clone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="made in a clone"):
        build_wheel(tmp_path, tmp_path)
