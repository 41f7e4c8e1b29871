"""The wheel of rankfleet itself: built from the clone that runs, or put together again from what pip installed."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath

from edge_agent.wire.errors import FetchError

CLONE = Path(__file__).resolve().parents[2]
"""The folder above this package: a clone, or where pip installs to."""
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "edge_agent", "coordinator", "profiling", "deploy")
_EPOCH_S = 315532800
"""1980, the first year that a wheel can hold: what it is made of decides its bytes, not when."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_INSTALLERS_OWN = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def own_wheel(folder: Path, clone: Path = CLONE) -> Path:
    """Makes rankfleet's wheel in `folder`, by building `clone`, which stays as it is, where that is a clone.

    Raises:
        FetchError: it cannot be built, or pip did not install this rankfleet.
    """
    if (clone / "pyproject.toml").is_file():
        return build(clone, folder)
    return repack(Distribution.from_name("rankfleet"), folder)


def build(clone: Path, folder: Path) -> Path:
    """Builds the wheel of a copy of `clone` in `folder`.

    Raises:
        FetchError: pip cannot build it; the message has its last line.
    """
    with tempfile.TemporaryDirectory(prefix="rankfleet-wheel-") as work:
        copy = Path(work) / "clone"
        copy.mkdir()
        for name in _SOURCES:
            # What an earlier build left in the clone would otherwise be packed again.
            _copy(clone / name, copy / name)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check"]
        environ = {**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH_S), "TMPDIR": work}
        done = subprocess.run(
            [*command, "--wheel-dir", str(folder), str(copy)],
            capture_output=True, text=True, errors="replace", env=environ, check=False,
        )  # fmt: skip
    if done.returncode:
        last = ([line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"])[-1]
        raise FetchError(f"rankfleet's wheel cannot be built from {clone}: {last.strip()}; check your package index")
    return next(folder.glob("rankfleet-*.whl"))


def repack(one: Distribution, folder: Path) -> Path:
    """Puts the wheel of an installed distribution of Python modules together again.

    Raises:
        FetchError: it has no list of its files, was installed in editable mode, or is not for every machine.
    """
    name, version = one.metadata["Name"], one.version
    tags = [line.partition(": ")[2] for line in (one.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    if tags != ["py3-none-any"]:
        raise FetchError(f"{name} is not installed as modules for any machine (its tags: {tags}): install it with pip")
    members = {str(path): Path(str(one.locate_file(path))) for path in one.files or [] if _belongs(path)}
    if not any(path.suffix == ".py" for path in members.values()):
        raise FetchError(f"{name} {version} has no list of its modules: install it with pip, not in editable mode")
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    record = ""
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, path in sorted(members.items()):
            data = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{member},sha256={digest},{len(data)}\n"
            archive.writestr(zipfile.ZipInfo(member, _EPOCH), data, zipfile.ZIP_DEFLATED)
        record += f"{info}/RECORD,,\n"
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", _EPOCH), record, zipfile.ZIP_DEFLATED)
    return wheel


def _belongs(path: PurePosixPath) -> bool:
    """Whether a file of an installed distribution was in its wheel: no scripts, bytecode, or notes of the installer."""
    return path.parts[0] != ".." and path.suffix != ".pyc" and path.name not in _INSTALLERS_OWN


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "benchmark"))
    else:
        shutil.copy2(source, target)
