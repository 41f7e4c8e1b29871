"""The wheels that rankfleet needs on another machine, found with that machine's markers.

pip chooses wheels for another platform and Python, but evaluates the markers of requirements for the interpreter that
runs it. So it is asked for single wheels only, and what these require is read from their own metadata, with the
board's markers, until nothing new is required: then all requirements have been given to one resolution.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from edge_agent.wire.errors import ConfigError, FetchError

MACHINES = ("aarch64", "x86_64")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
BOARD_CONSTRAINTS = Path(__file__).resolve().parent.parent / "board-constraints.txt"
_MOST_PASSES = 20
# From the oldest C library that wheels are made for to that of the oldest supported board (Ubuntu 22.04 on a Jetson).
_GLIBC_MINORS = range(17, 36)


@dataclass(frozen=True)
class Target:
    """A kind of board: its machine as `uname -m` says it, and its Python as 3.11."""

    machine: str
    python: str

    def markers(self) -> dict[str, str]:
        """The environment in which markers are evaluated there."""
        here = {name: str(value) for name, value in default_environment().items()}
        linux = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "extra": ""}
        python = {"python_version": self.python, "python_full_version": f"{self.python}.0"}
        return {**here, **linux, **python, "platform_machine": self.machine, "implementation_name": "cpython"}


def collect(own: Path, target: Target, constraints: Path, folder: Path) -> list[Path]:
    """Fetches into `folder` the wheels of pip and of all that the wheel `own` needs on `target`; their paths, sorted.

    Raises:
        ConfigError: the constraints cannot be read.
        FetchError: pip finds no wheel, or requirements contradict each other.
    """
    environment = target.markers()
    pins = _plain(read_constraints(constraints), [environment])
    wanted = {"pip", *_requirements(own, (), environment)}
    for _ in range(_MOST_PASSES):
        chosen = _download(sorted(wanted), pins, target, folder)
        extras = _extras(wanted)
        found = (_requirements(wheel, extras.get(_name(wheel), ()), environment) for wheel in chosen)
        further = set[str]().union(*found)
        if further <= wanted:
            return _keep(chosen, folder)
        wanted |= further
    raise FetchError(f"the requirements of {own.name} have no end after {_MOST_PASSES} passes: pin more of them")


def platform_options(target: Target) -> list[str]:
    """The options by which pip takes wheels for `target` rather than for its own interpreter."""
    options = ["--python-version", target.python, "--implementation", "cp"]
    for platform in (*(f"manylinux_2_{minor}" for minor in _GLIBC_MINORS), "manylinux2014"):
        options += ["--platform", f"{platform}_{target.machine}"]
    return options


def read_constraints(path: Path) -> list[Requirement]:
    """The lines of a constraints file as pip takes it.

    Raises:
        ConfigError: it cannot be read, or a line is no requirement.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the constraints file {path} cannot be read ({error}): name one as pip takes it") from error
    texts = ((number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1))
    return [_constraint(text, f"{path}:{number}") for number, text in texts if text]


def _constraint(text: str, where: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError(f"{where}: expected a line like 'numpy==2.1.3', got {text!r}: correct it") from error


def _plain(requirements: Iterable[Requirement], environments: Sequence[Mapping[str, str]]) -> set[str]:
    """Those that apply in one of `environments`, without their markers, which pip would evaluate for this one."""
    chosen = [
        one
        for one in requirements
        if one.marker is None or any(one.marker.evaluate(dict(environment)) for environment in environments)
    ]
    for one in chosen:
        one.marker = None
    return {str(one) for one in chosen}


def _requirements(wheel: Path, extras: Iterable[str], environment: Mapping[str, str]) -> set[str]:
    """What a wheel requires in `environment`, with `extras`."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        metadata = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    environments = [{**environment, "extra": extra} for extra in ("", *extras)]
    return _plain(map(Requirement, metadata.get_all("Requires-Dist", [])), environments)


def _extras(wanted: Iterable[str]) -> dict[str, set[str]]:
    extras: dict[str, set[str]] = {}
    for one in map(Requirement, wanted):
        extras.setdefault(canonicalize_name(one.name), set()).update(one.extras)
    return extras


def _name(wheel: Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _download(wanted: list[str], pins: set[str], target: Target, folder: Path) -> list[Path]:
    """Has pip choose one wheel for each name in `wanted`; the chosen ones, all of which are in `folder` then."""
    with tempfile.TemporaryDirectory(prefix="rankfleet-wheels-") as work:
        constraints = Path(work) / "constraints.txt"
        constraints.write_text("\n".join(sorted(pins)), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
        command += ["--disable-pip-version-check", "--constraint", str(constraints), "--dest", work]
        command += platform_options(target)
        done = subprocess.run([*command, *wanted], capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise FetchError(_failure(target, done.stderr))
        return [Path(shutil.move(path, folder / path.name)) for path in sorted(Path(work).glob("*.whl"))]


def _keep(chosen: list[Path], folder: Path) -> list[Path]:
    """Deletes what an earlier pass fetched and the last one did not choose."""
    for path in set(folder.glob("*.whl")) - set(chosen):
        path.unlink()
    return sorted(chosen)


def _failure(target: Target, stderr: str) -> str:
    last = ([line.strip() for line in stderr.splitlines() if line.strip()] or ["(nothing)"])[-1]
    return (
        f"pip found no wheels for {target.machine} with Python {target.python}; its last line: {last}; check that they "
        "exist for that machine, and your package index ('pip config list' shows it)"
    )
