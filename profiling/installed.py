"""What an installation takes on disk: in this interpreter, or on another kind of machine.

An installation for another machine is made by pip in a temporary folder, out of wheels only, and thrown away. Compiled
bytecode is counted by itself: pip writes it for every module, and with `--no-compile` Python does for those it imports.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, requires
from importlib.util import cache_from_source
from pathlib import Path

import msgspec
from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from edge_agent.wire.errors import ConfigError, FetchError, RankfleetError

LIMIT_BYTES = 140_000_000
"""What the agent and all it needs may take on a board."""
_COMPILED = ".pyc"
# From the oldest C library that wheels are made for to that of the oldest supported board (Ubuntu 22.04 on a Jetson).
_GLIBC_MINORS = range(17, 36)


class Size(msgspec.Struct, frozen=True):
    """What one distribution takes on disk, and its compiled bytecode by itself."""

    name: str
    version: str
    size_bytes: int
    compiled_bytes: int


class Machine(msgspec.Struct, frozen=True):
    """A board with Linux: its kind (as `uname -m` says it) and its Python (as 3.11)."""

    kind: str
    python: str


def agent_requirements() -> list[str]:
    """What rankfleet needs on a board: the requirements of its installed distribution without those of an extra."""
    parsed = [Requirement(text) for text in requires("rankfleet") or []]
    return [str(one) for one in parsed if "extra" not in str(one.marker)]


def installed_bytes(requirements: Sequence[str]) -> int:
    """Bytes on disk of `requirements` and all that they need, as installed for this interpreter, bytecode included.

    Raises:
        RankfleetError: a distribution is not installed, or has no list of its files.
    """
    return sum(path.stat().st_size for path in {path for one in _closure(requirements) for path in _files(one)})


def measure(requirements: Sequence[str], machine: Machine, constraints: Path | None = None) -> list[Size]:
    """What `requirements` and all that they need take on `machine`, largest first.

    Markers of the requirements and constraints are evaluated for `machine`; pip evaluates those further down for this
    interpreter, so the result is exact where `machine` has its Python version.

    Raises:
        ConfigError: the constraints file cannot be read, or the Python of `machine` is no version.
        FetchError: pip cannot install the requirements out of wheels.
    """
    environment = _environment(machine)
    with tempfile.TemporaryDirectory(prefix="rankfleet-installed-") as work:
        folder = Path(work) / "installed"
        pins = Path(work) / "constraints.txt"
        pins.write_text("\n".join(_applying(_constraints(constraints), environment)), encoding="utf-8")
        wanted = _applying(map(Requirement, requirements), environment)
        _run_pip(["--compile", "--constraint", str(pins), "--target", str(folder), *wanted], machine, Path(work))
        sizes = [_size(one) for one in distributions(path=[str(folder)])]
    return sorted(sizes, key=lambda one: -one.size_bytes)


def _closure(requirements: Sequence[str]) -> list[Distribution]:
    """The installed distributions that `requirements` lead to, each once."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [one for one in map(Requirement, requirements) if _applies(one, {"extra": ""})]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found[name] = _installed(requirement.name)
        for extra in {"", *requirement.extras} - {extra for other, extra in seen if other == name}:
            seen.add((name, extra))
            needed = map(Requirement, found[name].requires or [])
            waiting += [one for one in needed if _applies(one, {"extra": extra})]
    return list(found.values())


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise RankfleetError(f"{name} is needed and not installed for {sys.executable}: install it with pip") from error


def _files(one: Distribution) -> set[Path]:
    """The files of a distribution that exist, with bytecode that Python wrote after the installation."""
    if one.files is None:
        raise RankfleetError(f"{one.metadata['Name']} has no list of its files: install it with pip")
    listed = {Path(str(one.locate_file(path))).resolve() for path in one.files}
    compiled = {Path(cache_from_source(str(path))) for path in listed if path.suffix == ".py"}
    return {path for path in listed | compiled if path.is_file()}


def _size(one: Distribution) -> Size:
    sizes_bytes = {path: path.stat().st_size for path in _files(one)}
    compiled_bytes = sum(size for path, size in sizes_bytes.items() if path.suffix == _COMPILED)
    return Size(one.metadata["Name"], one.version, sum(sizes_bytes.values()) - compiled_bytes, compiled_bytes)


def _environment(machine: Machine) -> dict[str, str]:
    if not re.fullmatch(r"3\.\d+", machine.python):
        raise ConfigError(f"expected the board's Python as 3.11, got {machine.python!r}: give its first two numbers")
    here = {name: str(value) for name, value in default_environment().items()}
    linux = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "extra": ""}
    python = {"python_version": machine.python, "python_full_version": f"{machine.python}.0"}
    return {**here, **linux, **python, "platform_machine": machine.kind}


def _applies(requirement: Requirement, environment: Mapping[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(dict(environment))


def _applying(requirements: Iterable[Requirement], environment: Mapping[str, str]) -> list[str]:
    """Those that apply, without their markers, which pip would evaluate for this interpreter."""
    chosen = [one for one in requirements if _applies(one, environment)]
    for one in chosen:
        one.marker = None
    return [str(one) for one in chosen]


def _constraints(path: Path | None) -> Iterator[Requirement]:
    if path is None:
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the constraints file {path} cannot be read ({error}): name one as pip takes it") from error
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            yield _constraint(text, f"{path}:{number}")


def _constraint(text: str, where: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError(f"{where}: expected a line like 'numpy==2.1.3', got {text!r}: correct it") from error


def _run_pip(arguments: Sequence[str], machine: Machine, work: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["--python-version", machine.python, "--implementation", "cp"]
    for platform in (*(f"manylinux_2_{minor}" for minor in _GLIBC_MINORS), "manylinux2014"):
        command += ["--platform", f"{platform}_{machine.kind}"]
    # pip's own temporary copies go where the user's temporary folder was chosen to be, and away with it.
    environ = {**os.environ, "TMPDIR": str(work)}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, errors="replace", env=environ, check=False
    )
    if done.returncode:
        raise FetchError(_pip_failure(machine, done.stderr))


def _pip_failure(machine: Machine, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["(nothing)"]
    return (
        f"pip could not install the agent's requirements for {machine.kind}, Python {machine.python}; its last line: "
        f"{lines[-1]}; check that wheels exist for that machine, and your package index ('pip config list' shows it)"
    )
