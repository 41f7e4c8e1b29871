"""Sizes of installations: each file of each needed distribution once, here or as another machine installs it."""

from __future__ import annotations

import importlib
import zipfile
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from edge_agent.wire.errors import ConfigError, FetchError, RankfleetError
from profiling.installed import Machine, agent_requirements, installed_bytes, measure

PI = Machine("aarch64", "3.11")
BOARD_CONSTRAINTS = Path(__file__).resolve().parents[2] / "deploy" / "board-constraints.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def _metadata(name: str, requires: tuple[str, ...]) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", "Provides-Extra: fast"]
    return "\n".join([*lines, *(f"Requires-Dist: {one}" for one in requires)]) + "\n"


def _installed(site: Path, name: str, size_bytes: int, *requires: str) -> int:
    """Puts a distribution of one module into `site`; the bytes of all its files."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(_metadata(name, requires))
    (site / f"{name}.py").write_bytes(b"#" * size_bytes)
    listed = [f"{name}.py", f"{info.name}/METADATA", f"{info.name}/RECORD", "gone.py", f"{name}.py"]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in listed))
    importlib.invalidate_caches()
    return size_bytes + sum(path.stat().st_size for path in info.iterdir())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_what_is_needed_counts_once_however_often_it_is_needed(site: Path) -> None:
    sizes = [_installed(site, "rf_a", 1000, "rf_b", "rf-c>=1"), _installed(site, "rf_b", 200, "rf_c", "rf_a")]
    sizes.append(_installed(site, "rf_c", 30))
    assert installed_bytes(["rf_a"]) == sum(sizes)
    assert installed_bytes(["rf-A", "rf_c", "rf_a>=0.5"]) == sum(sizes)
    assert installed_bytes(["rf_c"]) == sizes[2]
    assert installed_bytes([]) == 0


def test_markers_and_extras_decide_what_is_needed(site: Path) -> None:
    own = _installed(site, "rf_a", 1000, "rf_b; python_version < '3'", "rf_c; extra == 'fast'")
    extra = _installed(site, "rf_c", 30)
    assert installed_bytes(["rf_a"]) == own
    assert installed_bytes(["rf_a[fast]"]) == own + extra
    assert installed_bytes(["rf_a", "rf_a[fast]"]) == own + extra
    assert installed_bytes(["rf_b; sys_platform == 'none'"]) == 0


def test_bytecode_counts_though_no_list_names_it(site: Path) -> None:
    own = _installed(site, "rf_a", 1000)
    compiled = Path(cache_from_source(str(site / "rf_a.py")))
    compiled.parent.mkdir()
    compiled.write_bytes(b"#" * 70)
    assert installed_bytes(["rf_a"]) == own + 70


def test_what_is_not_installed_is_named(site: Path) -> None:
    _installed(site, "rf_a", 1000, "rf_missing")
    with pytest.raises(RankfleetError, match=r"rf_missing is needed and not installed for .*: install it with pip"):
        installed_bytes(["rf_a"])


def test_a_distribution_without_a_list_of_files_is_named(site: Path) -> None:
    _installed(site, "rf_a", 1000)
    (site / "rf_a-1.0.dist-info" / "RECORD").unlink()
    with pytest.raises(RankfleetError, match="rf_a has no list of its files: install it with pip"):
        installed_bytes(["rf_a"])


def _wheel(index: Path, version: str, tag: str, size_bytes: int, *requires: str) -> None:
    """A wheel of `rf_board` with a library for one kind of machine."""
    info = f"rf_board-{version}.dist-info"
    files = {
        "rf_board.py": "limit = 1\n",
        f"rf_board.{tag}.so": "#" * size_bytes,
        f"{info}/METADATA": _metadata("rf_board", requires).replace("1.0", version),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(index / f"rf_board-{version}-{tag}.whl", "w") as wheel:
        for path, content in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, content)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip has to find wheels in."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_another_machine_gets_its_own_wheel(index: Path) -> None:
    _wheel(index, "1.0", "cp311-cp311-manylinux_2_28_aarch64", 5000)
    _wheel(index, "1.0", "cp311-cp311-manylinux_2_28_x86_64", 9000)
    (size,) = measure(["rf_board", "rf_absent; python_version < '3.11'"], PI)
    assert (size.name, size.version) == ("rf_board", "1.0")
    assert 5000 < size.size_bytes < 9000
    assert size.compiled_bytes > 0


def test_constraints_apply_by_the_boards_python_and_not_by_this_one(index: Path, tmp_path: Path) -> None:
    for version, size_bytes in (("1.0", 1000), ("2.0", 2000), ("3.0", 3000)):
        _wheel(index, version, "py3-none-manylinux2014_aarch64", size_bytes)
    path = tmp_path / "constraints.txt"
    path.write_text("# why\nrf_board==2.0; python_version >= '3.12'  # new\n\nrf_board==1.0; python_version < '3.12'\n")
    assert [measure(["rf_board"], Machine("aarch64", python), path)[0].version for python in ("3.11", "3.13")] == [
        "1.0",
        "2.0",
    ]


def test_a_machine_without_wheels_is_named(index: Path) -> None:
    _wheel(index, "1.0", "py3-none-manylinux2014_aarch64", 1000)
    with pytest.raises(FetchError, match=r"for riscv64, Python 3\.11; its last line: .*rf_board.*; check that wheels"):
        measure(["rf_board"], Machine("riscv64", "3.11"))


@pytest.mark.parametrize("python", ["3", "3.11.2", "py311", ""])
def test_a_python_that_is_no_version_is_refused(python: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected the board's Python as 3\.11, got '{python}'"):
        measure([], Machine("aarch64", python))


def test_a_constraints_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read"):
        measure([], PI, tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_text("numpy==2.1.3\n-r other.txt\n")
    with pytest.raises(ConfigError, match=r"bad\.txt:2: expected a line like 'numpy==2\.1\.3', got '-r other\.txt'"):
        measure([], PI, tmp_path / "bad.txt")


def test_an_agent_needs_no_extra() -> None:
    names = {Requirement(text).name for text in agent_requirements()}
    assert {"onnxruntime", "numpy", "tokenizers"} <= names
    assert not names & {"torch", "amqtt", "pytest"}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_boards_constraints_are_pins_within_the_agents_ranges(python: str) -> None:
    ranges = {one.name: one.specifier for one in map(Requirement, agent_requirements())}
    lines = [line for line in BOARD_CONSTRAINTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pins = [Requirement(line) for line in lines if line]
    chosen = [one for one in pins if one.marker is None or one.marker.evaluate({"python_version": python})]
    assert len({one.name for one in chosen}) == len(chosen)
    for pin in chosen:
        (only,) = pin.specifier
        assert only.operator == "=="
        assert pin.name not in ranges or ranges[pin.name].contains(only.version)
