"""Bundles: all that a board needs to install a release, in one tar that is checked before anything of it is used.

::

    manifest.json       version, machine (as `uname -m`), python (as 3.11), files: name -> sha256
    wheels/*.whl        rankfleet, everything that it needs, and pip
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge_agent.wire.errors import ReleaseError

MANIFEST = "manifest.json"
MOST_BYTES = 2**30
"""Most bytes that a bundle's files may have together: an agent's are less than a tenth of it."""
MOST_MEMBERS = 1000
MOST_MANIFEST_BYTES = 2**20
_CHUNK_BYTES = 2**20
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+_]{0,63}")
_MACHINE = re.compile(r"[a-z0-9_]{1,32}")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_WHEEL = re.compile(r"wheels/[0-9A-Za-z._+-]{1,200}\.whl")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself. `files` are names in the tar and their sha256, hexadecimal."""

    version: str
    machine: str
    python: str
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """By which two bundles are the same: a sha256 over everything in the manifest."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def name(self) -> str:
        """The bundle's file name."""
        return f"rankfleet-agent-{self.version}-{self.machine}-cp{self.python.replace('.', '')}.tar"

    def to_json(self) -> bytes:
        """The same bytes for the same content; inverse of `parse`."""
        content = {
            "version": self.version, "machine": self.machine, "python": self.python,
            "files": dict(sorted(self.files.items())),
        }  # fmt: skip
        return json.dumps(content, indent=1).encode() + b"\n"


def parse(data: bytes) -> Manifest:
    """The manifest that `data` holds.

    Raises:
        ReleaseError: it is none, or names something that a bundle cannot hold.
    """
    try:
        content: Any = json.loads(data)
        files = dict(content["files"])
        manifest = Manifest(content["version"], content["machine"], content["python"], files)
        _check(manifest.version, _VERSION, "a version like 0.1.0")
        _check(manifest.machine, _MACHINE, "a machine like aarch64")
        _check(manifest.python, _PYTHON, "a Python like 3.11")
        for name, sha256 in files.items():
            _check(name, _WHEEL, "a file like wheels/NAME.whl")
            _check(sha256, _SHA256, f"the sha256 of {name}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReleaseError(f"{MANIFEST} of the bundle is none ({error!r}): make or fetch the bundle again") from error
    return manifest


def _check(text: object, shape: re.Pattern[str], what: str) -> None:
    if not isinstance(text, str) or not shape.fullmatch(text):
        raise ReleaseError(f"{MANIFEST} of the bundle: expected {what}, got {text!r}: make or fetch the bundle again")


def check_board(manifest: Manifest) -> None:
    """Refuses a bundle for another machine, or another Python, than the running one.

    Raises:
        ReleaseError: it is for another; says which is needed.
    """
    machine, python = platform.machine(), f"{sys.version_info.major}.{sys.version_info.minor}"
    if (manifest.machine, manifest.python) != (machine, python):
        raise ReleaseError(
            f"the bundle is for {manifest.machine} with Python {manifest.python}, this board is {machine} with Python "
            f"{python}: make one on the gateway with 'rankfleet deploy bundle --target {machine} --python {python}'"
        )


def unpack(bundle: Path, folder: Path) -> Manifest:
    """Writes the files of the tar `bundle` into `folder`, which exists and is empty, each as its manifest says.

    Raises:
        ReleaseError: it is no bundle, a file is missing, altered, too large or of a name that does not belong there;
            or it cannot be read, or the folder not written. What was written then is of no use.
    """
    try:
        with bundle.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            return _unpack(tar, folder)
    except (tarfile.TarError, EOFError) as error:
        raise ReleaseError(f"{bundle} is no bundle ({error}): make or fetch it again") from error
    except OSError as error:
        raise ReleaseError(f"{bundle} cannot be unpacked into {folder}: {error}; check free space") from error


def _unpack(tar: tarfile.TarFile, folder: Path) -> Manifest:
    members = _members(tar)
    head = next(members, None)
    if head is None or head.name != MANIFEST or head.size > MOST_MANIFEST_BYTES:
        raise ReleaseError(f"the bundle does not begin with {MANIFEST}: make or fetch it again")
    manifest = parse(_file(tar, head).read())
    missing = set(manifest.files)
    (folder / "wheels").mkdir()
    for member in members:
        if member.name not in missing:
            raise ReleaseError(f"the bundle holds {member.name!r}, its manifest does not: make or fetch it again")
        missing.remove(member.name)
        _write(_file(tar, member), folder / member.name, manifest.files[member.name])
    if missing:
        raise ReleaseError(f"the bundle lacks {min(missing)}: it was cut short; make or fetch it again")
    return manifest


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Plain files only, one after the other, and not more than there may be."""
    count = total_bytes = 0
    for member in tar:
        count, total_bytes = count + 1, total_bytes + member.size
        if not member.isreg():
            raise ReleaseError(f"the bundle holds {member.name!r}, which is no plain file: make or fetch it again")
        if count > MOST_MEMBERS or total_bytes > MOST_BYTES:
            raise ReleaseError(
                f"the bundle has more than {MOST_MEMBERS} files or {MOST_BYTES} bytes, which no agent needs: "
                "make or fetch it again"
            )
        yield member


def _file(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None, "a plain file has content"
    return file


def _write(source: IO[bytes], path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with path.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise ReleaseError(f"{path.name} of the bundle is not as its manifest says: make or fetch it again")


def wheel(folder: Path, name: str) -> Path:
    """The wheel of a distribution in an unpacked bundle.

    Raises:
        ReleaseError: there is none.
    """
    found = sorted((folder / "wheels").glob(f"{name}-*.whl"))
    if not found:
        raise ReleaseError(f"the bundle holds no wheel of {name}: make it again with 'rankfleet deploy bundle'")
    return found[-1]
