"""rankfleet's own wheel: of a clone, or of what is installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest

from deploy.board.own_wheel import CLONE, build, own_wheel, repack
from edge_agent.wire.errors import FetchError


def test_a_clones_wheel_has_its_modules_and_what_they_read_and_leaves_the_clone_as_it_is(tmp_path: Path) -> None:
    before = {path.name for path in CLONE.iterdir()}
    wheel = own_wheel(tmp_path)
    assert {path.name for path in CLONE.iterdir()} == before
    names = set(zipfile.ZipFile(wheel).namelist())
    for module in ("edge_agent/releases/change.py", "coordinator/run.py", "deploy/packs/build.py"):
        assert module in names
    assert {"deploy/board/install.sh", "deploy/board-constraints.txt"} <= names
    assert {"coordinator/web/documents/index.html", "coordinator/web/static/strings/ja.json"} <= names
    strange = [name for name in names if name.startswith("tests/") or name.endswith((".pyc", ".json"))]
    assert not [name for name in strange if not name.startswith("coordinator/web/static/strings/")]
    (tmp_path / "again").mkdir()
    again = build(CLONE, tmp_path / "again")
    assert again.read_bytes() == wheel.read_bytes()


def test_what_is_no_project_cannot_be_built(tmp_path: Path) -> None:
    for name in ("edge_agent", "coordinator", "profiling", "deploy"):
        (tmp_path / name).mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_text("[project]\nname = 1\n")
    with pytest.raises(FetchError, match="rankfleet's wheel cannot be built"):
        build(tmp_path, tmp_path)


def test_an_installed_distribution_is_put_together_again(tmp_path: Path) -> None:
    wheel = repack(distribution("packaging"), tmp_path)
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--target"]
    subprocess.run([*command, str(target), str(wheel)], check=True, capture_output=True)
    (found,) = distributions(path=[str(target)])
    here = distribution("packaging")
    assert found.version == here.version
    assert (target / "packaging" / "markers.py").read_bytes() == Path(
        str(here.locate_file("packaging/markers.py"))
    ).read_bytes()


def test_what_is_for_one_machine_or_editable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="numpy is not installed as modules for any machine"):
        repack(distribution("numpy"), tmp_path)
    info = tmp_path / "rf_edit-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rf_edit\nVersion: 1\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: py3-none-any\n")
    (info / "RECORD").write_text("__editable__.rf_edit.pth,,\n")
    (one,) = distributions(path=[str(tmp_path)])
    with pytest.raises(FetchError, match="not in editable mode"):
        repack(one, tmp_path)
