"""The virtual environment of a release: made by the system's Python, filled by pip out of the bundle's wheels alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edge_agent.wire.errors import ReleaseError

from .bundle import wheel

LIMIT_S = 3600
"""Longest that one step may take: the slowest cards write a release in minutes."""
SELF_TEST_S = 300
"""Longest that a release may take to find out whether it works."""


def make(folder: Path, unpacked: Path, version: str) -> None:
    """Makes a virtual environment in `folder` and installs rankfleet `version` from the bundle in `unpacked`.

    pip writes no bytecode: Python does, for the modules that `self_test` imports, which are those that an agent needs.

    Raises:
        ReleaseError: a step failed; the message has its last line.
    """
    _run("make a virtual environment", [sys.executable, "-m", "venv", "--without-pip", str(folder)], LIMIT_S)
    pip = [str(folder / "bin" / "python"), str(wheel(unpacked, "pip") / "pip"), "--isolated", "--no-input"]
    install = ["install", "--no-index", "--find-links", str(unpacked / "wheels"), "--only-binary=:all:"]
    quietly = ["--no-compile", "--no-cache-dir", "--disable-pip-version-check", "--no-warn-script-location", "--quiet"]
    _run("install the wheels", [*pip, *install, *quietly, f"rankfleet=={version}"], LIMIT_S)


def self_test(folder: Path) -> None:
    """Has the release in `folder` import what an agent needs, and compute.

    Raises:
        ReleaseError: it does not work; the message has its last line.
    """
    _run("run its self-test", [str(folder / "bin" / "python"), "-m", "edge_agent.self_test"], SELF_TEST_S)


def _run(what: str, command: list[str], limit_s: float) -> None:
    # This process may have been told where to find modules and wheels; the release must not.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False, cwd="/",
            env={**environ, "PIP_CONFIG_FILE": os.devnull},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"the release could not {what} within {limit_s:.0f} s: is the board overloaded?") from error
    except OSError as error:
        raise ReleaseError(f"the release could not {what}: {error}; is its Python still there?") from error
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = said[-1] if said else f"it ended with status {done.returncode}"
        raise ReleaseError(f"the release could not {what}: {last}; check free space, then make the bundle again")
