"""The wheels of a board are found by the board's markers, whatever interpreter looks for them."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from deploy.board.wheels import BOARD_CONSTRAINTS, Target, collect, read_constraints
from edge_agent.wire.errors import ConfigError, FetchError
from tests.bundles import pip_wheel

PI = Target("aarch64", "3.11")


def make_wheel(folder: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any") -> Path:
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Provides-Extra: fast"]
    metadata += [f"Requires-Dist: {one}" for one in requires]
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(member, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in (*files, f"{info}/RECORD")))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip has to find wheels in; pip's own is there."""
    folder = tmp_path / "index"
    folder.mkdir()
    shutil.copy(pip_wheel(), folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def collected(own: Path, target: Target, tmp_path: Path, constraints: str = "") -> set[str]:
    """Names and versions of what was collected, without pip's."""
    pins, folder = tmp_path / "constraints.txt", tmp_path / f"wheels-{target.machine}-{target.python}"
    pins.write_text(constraints)
    folder.mkdir()
    found = collect(own, target, pins, folder)
    assert found == sorted(folder.iterdir())
    names = {"-".join(path.name.split("-")[:2]) for path in found}
    assert len([name for name in names if name.startswith("pip-")]) == 1
    return {name for name in names if not name.startswith("pip-")}


def test_markers_of_indirect_requirements_are_the_boards(index: Path, tmp_path: Path) -> None:
    own = make_wheel(tmp_path, "own", "1", "rf_a")
    make_wheel(index, "rf_a", "1", "rf_old; python_version < '3.11'", "rf_arm; platform_machine == 'aarch64'")
    make_wheel(index, "rf_old", "1", "rf_older")
    for name in ("rf_older", "rf_arm"):
        make_wheel(index, name, "1")
    found = {
        (machine, python): collected(own, Target(machine, python), tmp_path)
        for machine in ("aarch64", "x86_64")
        for python in ("3.10", "3.13")
    }
    assert found == {
        ("aarch64", "3.10"): {"rf_a-1", "rf_old-1", "rf_older-1", "rf_arm-1"},
        ("aarch64", "3.13"): {"rf_a-1", "rf_arm-1"},
        ("x86_64", "3.10"): {"rf_a-1", "rf_old-1", "rf_older-1"},
        ("x86_64", "3.13"): {"rf_a-1"},
    }


def test_the_machines_own_wheel_is_taken(index: Path, tmp_path: Path) -> None:
    for machine in ("aarch64", "x86_64"):
        make_wheel(index, "rf_a", "1", tag=f"cp311-cp311-manylinux_2_28_{machine}")
    own = make_wheel(tmp_path, "own", "1", "rf_a")
    folder = tmp_path / "wheels"
    folder.mkdir()
    (tmp_path / "constraints.txt").write_text("")
    found = collect(own, PI, tmp_path / "constraints.txt", folder)
    assert "rf_a-1-cp311-cp311-manylinux_2_28_aarch64.whl" in {path.name for path in found}
    with pytest.raises(FetchError, match=r"no wheels for riscv64 with Python 3\.11; its last line: .*rf_a"):
        collect(own, Target("riscv64", "3.11"), tmp_path / "constraints.txt", folder)


def test_requirements_that_turn_up_later_are_met_together(index: Path, tmp_path: Path) -> None:
    """An older version of what was chosen at first is needed by what that brought; the newer one is not kept."""
    own = make_wheel(tmp_path, "own", "1", "rf_a>=1", "rf_b")
    for version in ("1", "2", "3"):
        make_wheel(index, "rf_a", version)
    make_wheel(index, "rf_b", "1", "rf_c[fast]")
    make_wheel(index, "rf_c", "1", "rf_a<3", "rf_extra; extra == 'fast'", "rf_other; extra == 'slow'")
    make_wheel(index, "rf_extra", "1")
    assert collected(own, PI, tmp_path) == {"rf_a-2", "rf_b-1", "rf_c-1", "rf_extra-1"}


def test_constraints_hold_by_the_boards_python(index: Path, tmp_path: Path) -> None:
    own = make_wheel(tmp_path, "own", "1", "rf_a")
    for version in ("1", "2", "3"):
        make_wheel(index, "rf_a", version)
    pins = "rf_a==2; python_version >= '3.12'  # why\n\nrf_a==1; python_version < '3.12'\n"
    assert collected(own, Target("aarch64", "3.10"), tmp_path, pins) == {"rf_a-1"}
    assert collected(own, Target("aarch64", "3.13"), tmp_path, pins) == {"rf_a-2"}


def test_a_constraints_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert {one.name for one in read_constraints(BOARD_CONSTRAINTS)} >= {"numpy", "onnxruntime"}
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read"):
        read_constraints(tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_text("numpy==2.1.3\n-r other.txt\n")
    with pytest.raises(ConfigError, match=r"bad\.txt:2: expected a line like 'numpy==2\.1\.3'"):
        read_constraints(tmp_path / "bad.txt")
