"""Releases as files: bundles that boards fetch from the fleet's `releases` folder, and what they say of themselves.

A bundle is a tar that begins with its `manifest.json`. That of the agent says version, machine and Python; that of a
pack is the pack's own, and a pack's version is the first digits of its manifest's sha256, as boards name its folder.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from coordinator.enrolment.rollout import Bundle, Release
from edge_agent.wire import pack
from edge_agent.wire.errors import ConfigError, StoreError
from edge_agent.wire.malformed import MALFORMED
from edge_agent.wire.updates import BundleName, Word, parse_version

MANIFEST = "manifest.json"
PACK_DIGITS = 16
_MOST_MANIFEST_BYTES = 2**20
_EPOCH_S = 0


class _Manifest(msgspec.Struct):
    version: Word
    machine: Word
    python: Word

    def __post_init__(self) -> None:
        parse_version(self.version)


def agent_release(files: Sequence[Path], releases: Path) -> Release:
    """The release of these bundles, which are copied into the folder `releases`.

    Raises:
        ConfigError: one is no bundle of the agent, they differ in version, or two are for the same kind of board.
        StoreError: one cannot be read, or `releases` not written.
    """
    manifests = [_agent_manifest(path) for path in files]
    versions = sorted({manifest.version for manifest in manifests})
    if len(versions) != 1:
        raise ConfigError(f"a release is one version for several kinds of board, these bundles are {versions}")
    if len({(manifest.machine, manifest.python) for manifest in manifests}) < len(files):
        raise ConfigError("a release has one bundle for each machine and Python: two of these are for the same")
    bundles = tuple(
        Bundle(path.name, _put(path, releases), path.stat().st_size, manifest.machine, manifest.python)
        for path, manifest in zip(files, manifests, strict=True)
    )
    return Release("agent", versions[0], bundles)


def pack_release(folder: Path, releases: Path) -> Release:
    """The release of the pack in `folder`, put into one bundle in `releases`.

    Raises:
        PackError: it is no whole pack.
        StoreError: `releases` cannot be written.
    """
    manifest = pack.verify(folder)
    name = pack.file_sha256(folder / pack.MANIFEST)[:PACK_DIGITS]
    target = releases / f"rankfleet-pack-{name}.tar"
    draft = _draft(target)
    try:
        with tarfile.open(draft, "w", format=tarfile.GNU_FORMAT) as tar:
            for member in (pack.MANIFEST, *sorted(manifest.files)):
                _add(tar, folder / member)
        _keep(draft, target)
    except OSError as error:
        raise _unusable(target, error) from error
    return Release("pack", name, (Bundle(target.name, pack.file_sha256(target), target.stat().st_size),))


def _agent_manifest(path: Path) -> _Manifest:
    try:
        msgspec.convert(path.name, BundleName)
        with tarfile.open(path, "r:") as tar:
            head = tar.next()
            if head is None or head.name != MANIFEST or head.size > _MOST_MANIFEST_BYTES:
                raise ConfigError(f"{path} does not begin with {MANIFEST}: is it of `rankfleet deploy bundle`?")
            file = tar.extractfile(head)
            return msgspec.json.decode(file.read() if file is not None else b"", type=_Manifest)
    except (tarfile.TarError, EOFError, msgspec.ValidationError, *MALFORMED) as error:
        raise ConfigError(f"{path} is no bundle of the agent: {error}; see `rankfleet deploy bundle`") from error
    except OSError as error:
        raise _unusable(path, error) from error


def _put(path: Path, releases: Path) -> str:
    """Copies a bundle; one of the same name with other content is not replaced: boards may have got it."""
    target = releases / path.name
    try:
        sha256 = pack.file_sha256(path)
        if target.exists() and pack.file_sha256(target) == sha256:
            return sha256
        if target.exists():
            raise ConfigError(f"{target} is another bundle of that name: give the new one another version")
        draft = _draft(target)
        shutil.copyfile(path, draft)
        _keep(draft, target)
    except OSError as error:
        raise _unusable(target, error) from error
    return sha256


def _draft(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(target, error) from error
    return target.with_suffix(".tmp")


def _keep(draft: Path, target: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)


def _add(tar: tarfile.TarFile, path: Path) -> None:
    """The same pack makes the same bytes, whenever and by whomever it is packed."""
    member = tarfile.TarInfo(path.name)
    member.size, member.mode, member.mtime = path.stat().st_size, 0o644, _EPOCH_S
    with path.open("rb") as file:
        tar.addfile(member, file)


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be used: {error.strerror}; check permissions and free space")
