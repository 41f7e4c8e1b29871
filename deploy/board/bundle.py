"""Bundles: the agent for one kind of board as a single tar, and what a stick for boards without a network holds.

The same wheels give the same bytes. What a bundle holds is read, and checked, by `edge_agent.releases.bundle`.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename

from deploy.board.own_wheel import own_wheel
from deploy.board.wheels import BOARD_CONSTRAINTS, MACHINES, PYTHONS, Target, collect
from edge_agent.releases.bundle import MANIFEST, Manifest
from edge_agent.wire import pack
from edge_agent.wire.errors import ConfigError, StoreError

CHECKSUMS = "SHA256SUMS"
INSTALLER = "install.sh"


@dataclass(frozen=True)
class Order:
    """What to bundle: for which boards, with which pack (a folder) and which fleet's installer beside it."""

    target: Target
    pack: Path | None = None
    installer: bytes | None = None
    constraints: Path = BOARD_CONSTRAINTS


def check(target: Target) -> Target:
    """`target` itself, where boards of that kind are supported. Raises ConfigError."""
    if target.machine not in MACHINES or target.python not in PYTHONS:
        raise ConfigError(
            f"expected a target of {', '.join(MACHINES)} and a Python of {', '.join(PYTHONS)}, got {target.machine} "
            f"and {target.python}: 'uname -m' and 'python3 --version' on the board tell"
        )
    return target


def make(order: Order, out: Path) -> list[Path]:
    """Writes the bundle, the pack, the installer and their checksums into the folder `out`; their paths.

    Raises:
        ConfigError: boards of that kind are not supported, or the constraints cannot be read.
        FetchError: a wheel is missing or cannot be built.
        PackError: the pack is incomplete or altered.
        StoreError: something cannot be written.
    """
    check(order.target)
    try:
        out.mkdir(parents=True, exist_ok=True)
        made = [_bundle(order, out)]
        if order.pack is not None:
            made.append(_pack(order.pack, out))
        if order.installer is not None:
            installer = out / INSTALLER
            installer.write_bytes(order.installer)
            installer.chmod(0o755)
            made.append(installer)
        sums = out / CHECKSUMS
        sums.write_text("".join(f"{pack.file_sha256(path)}  {path.name}\n" for path in made), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error}; check its permissions and free space") from error
    return [*made, sums]


def publish(bundle: Path, releases: Path) -> Path:
    """Puts a bundle, or a pack's tar, into a fleet's folder of releases, whole or not at all; its path there.

    Raises:
        ConfigError: there is no such folder.
        StoreError: it cannot be written.
    """
    if not releases.is_dir():
        raise ConfigError(f"{releases} is no folder: name that of a fleet, made by 'rankfleet coordinator init'")
    part = releases / f".{bundle.name}.part"
    try:
        shutil.copyfile(bundle, part)
        return part.replace(releases / bundle.name)
    except OSError as error:
        raise StoreError(f"{releases} cannot be written: {error}; check its owner and free space") from error
    finally:
        part.unlink(missing_ok=True)


def write_tar(path: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Writes a bundle: its manifest, then `files` by their names in it. Raises OSError."""
    data = manifest.to_json()
    with _tar(path) as tar:
        tar.addfile(_member(MANIFEST, len(data)), io.BytesIO(data))
        _add(tar, files)


def _bundle(order: Order, out: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="rankfleet-bundle-") as work:
        (Path(work) / "own").mkdir()
        (Path(work) / "wheels").mkdir()
        own = own_wheel(Path(work) / "own")
        wheels = [own, *collect(own, order.target, order.constraints, Path(work) / "wheels")]
        files = {f"wheels/{path.name}": path for path in wheels}
        version = str(parse_wheel_filename(own.name)[1])
        digests = {name: pack.file_sha256(path) for name, path in files.items()}
        manifest = Manifest(version, order.target.machine, order.target.python, digests)
        write_tar(out / manifest.name, manifest, files)
    return out / manifest.name


def _pack(folder: Path, out: Path) -> Path:
    manifest = pack.verify(folder)
    digest = hashlib.sha256((folder / pack.MANIFEST).read_bytes()).hexdigest()
    path = out / f"rankfleet-pack-{digest[:16]}.tar"
    with _tar(path) as tar:
        _add(tar, {name: folder / name for name in (pack.MANIFEST, *manifest.files)})
    return path


def _tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "w", format=tarfile.GNU_FORMAT)


def _add(tar: tarfile.TarFile, files: Mapping[str, Path]) -> None:
    for name, path in sorted(files.items(), key=lambda one: (one[0] != pack.MANIFEST, one[0])):
        with path.open("rb") as file:
            tar.addfile(_member(name, os.fstat(file.fileno()).st_size), file)


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    """A plain file that belongs to root and has no date, whoever packs it and when."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size_bytes, 0o644
    return member
