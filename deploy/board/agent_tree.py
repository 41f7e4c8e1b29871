"""The agent and all that it needs, unpacked for another machine into one folder, as a package carries them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

from edge_agent.wire.errors import ConfigError, FetchError
from profiling.installed import Machine, install

ROOT = Path(__file__).resolve().parents[2]
"""The clone that this is part of."""
BOARD_CONSTRAINTS = ROOT / "deploy" / "board-constraints.txt"
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "edge_agent", "coordinator", "profiling", "deploy")
_BUILD_CONSTANT_TIME = {"SOURCE_DATE_EPOCH": "315532800"}
"""1980, the first year that a wheel can hold: what it is made of decides its bytes, not when."""


def unpack_agent(machine: Machine, folder: Path) -> list[Distribution]:
    """Puts rankfleet of this clone and its requirements for `machine` below `folder`, without bytecode and scripts.

    Returns:
        The distributions in it, by name.

    Raises:
        ConfigError: this is no clone, or the Python of `machine` is no version.
        FetchError: pip could not make rankfleet's wheel, or not install the requirements out of wheels.
    """
    with tempfile.TemporaryDirectory(prefix="rankfleet-wheel-") as work:
        wheel = build_wheel(ROOT, Path(work))
        own = next(iter(distributions(name="rankfleet", path=[str(wheel)])))
        needed = [Requirement(text) for text in own.requires or []]
        wanted = [f"rankfleet=={own.version}", *(str(one) for one in needed if "extra" not in str(one.marker))]
        install(wanted, machine, folder, BOARD_CONSTRAINTS, options=("--no-compile", "--find-links", work))
    # Their first lines name this machine's interpreter.
    shutil.rmtree(folder / "bin", ignore_errors=True)
    # NumPy's wheel has some bytecode in it.
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)
    return sorted(distributions(path=[str(folder)]), key=lambda one: one.metadata["Name"].lower())


def build_wheel(clone: Path, folder: Path) -> Path:
    """Makes rankfleet's wheel out of `clone`, which stays as it is, in `folder`.

    Raises:
        ConfigError: `clone` is none.
        FetchError: pip failed.
    """
    if not (clone / "pyproject.toml").is_file():
        raise ConfigError(f"{clone} has no pyproject.toml: packages for boards are made in a clone of the repository")
    with tempfile.TemporaryDirectory(prefix="rankfleet-sources-") as work:
        for name in _SOURCES:
            _copy(clone / name, Path(work) / name)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--wheel-dir", str(folder), work],
            capture_output=True, text=True, errors="replace", env={**os.environ, **_BUILD_CONSTANT_TIME}, check=False,
        )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["(nothing)"])[-1]
        raise FetchError(
            f"pip could not make rankfleet's wheel; its last line: {last}; is the package index reachable?"
        )
    return next(folder.glob("rankfleet-*.whl"))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "benchmark"))
    else:
        shutil.copy(source, target)
