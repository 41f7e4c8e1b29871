"""A release's environment is made of its bundle's wheels alone, by the real pip."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edge_agent.releases.bundle import unpack
from edge_agent.releases.environment import make, self_test
from edge_agent.wire.errors import ReleaseError
from tests.bundles import FAILS, small_bundle
from tests.edge_agent.releases.boards import version_of


def unpacked(folder: Path, version: str, self_test: str = "pass") -> Path:
    source = small_bundle(folder / "bundles", version, self_test)
    (folder / "unpacked").mkdir()
    unpack(source, folder / "unpacked")
    return folder / "unpacked"


def test_an_environment_has_what_the_bundle_has_and_nothing_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    source = unpacked(tmp_path, "7", "import sys; assert not [one for one in sys.path if 'elsewhere' in one]")
    make(tmp_path / "release", source, "7")
    self_test(tmp_path / "release")
    assert version_of(tmp_path / "release") == "7"
    listed = [tmp_path / "release" / "bin" / "python", "-m", "pip", "--version"]
    assert subprocess.run(listed, capture_output=True, check=False).returncode != 0


def test_a_release_that_does_not_work_says_why(tmp_path: Path) -> None:
    source = unpacked(tmp_path, "7", FAILS)
    with pytest.raises(ReleaseError, match=r"could not install the wheels: .*rankfleet==8"):
        make(tmp_path / "other", source, "8")
    make(tmp_path / "release", source, "7")
    with pytest.raises(ReleaseError, match="could not run its self-test: the processor is too old"):
        self_test(tmp_path / "release")
    with pytest.raises(ReleaseError, match="is its Python still there"):
        self_test(tmp_path / "none")
