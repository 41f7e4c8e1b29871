"""The agent and all that it needs, unpacked for another machine into one folder, as a package carries them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from deploy.board.own_wheel import own_wheel
from deploy.board.wheels import BOARD_CONSTRAINTS, Target, collect, platform_options
from edge_agent.wire.errors import FetchError


def unpack_agent(target: Target, folder: Path) -> list[Distribution]:
    """Puts rankfleet and its requirements for `target` below `folder`, without pip, bytecode and scripts.

    Returns:
        The distributions in it, by name.

    Raises:
        FetchError: rankfleet's wheel cannot be built, or a requirement's is missing or cannot be unpacked.
    """
    with tempfile.TemporaryDirectory(prefix="rankfleet-wheels-") as work:
        (Path(work) / "own").mkdir()
        (Path(work) / "wheels").mkdir()
        own = own_wheel(Path(work) / "own")
        wheels = [own, *collect(own, target, BOARD_CONSTRAINTS, Path(work) / "wheels")]
        _unpack([wheel for wheel in wheels if _name(wheel) != "pip"], target, folder)
    _leave_out_scripts(folder)
    # NumPy's wheel has some bytecode in it.
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)
    return sorted(distributions(path=[str(folder)]), key=lambda one: canonicalize_name(one.metadata["Name"]))


def _name(wheel: Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _unpack(wheels: list[Path], target: Target, folder: Path) -> None:
    """Has pip unpack `wheels`; named by version rather than path, so that it does not note where they lay."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", *platform_options(target), "--target", str(folder)]
    for place in sorted({wheel.parent for wheel in wheels}):
        command += ["--find-links", str(place)]
    wanted = [f"{name}=={version}" for name, version, *_ in (parse_wheel_filename(wheel.name) for wheel in wheels)]
    # pip's own temporary copies go where the wheels are, and away with them.
    environ = {**os.environ, "TMPDIR": str(wheels[0].parent)}
    done = subprocess.run(
        [*command, *wanted], capture_output=True, text=True, errors="replace", env=environ, check=False
    )
    if done.returncode:
        last = ([line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no reason given"])[-1]
        raise FetchError(f"pip could not unpack the agent's wheels into {folder}: {last}; is the disk full?")


def _leave_out_scripts(folder: Path) -> None:
    """Their first lines name this machine's interpreter, and the distributions' lists have the checksums of that."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for record in folder.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("../../bin/")), encoding="utf-8")
