"""`python -m edge_agent.updating.pack_trial`: a pack out of its bundle into the agent's folder, if it works here.

A process of its own, run as the agent's user: the folder is that user's, so root must not write there; and a graph or a
library that the processor does not bear ends it with a signal.

::

    pack_trial install STATE_DIR NAME < bundle     NAME: the first 16 hexadecimal digits of the manifest's sha256
    pack_trial remove STATE_DIR NAME
    pack_trial clear STATE_DIR                     what a trial left that was killed
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
from pathlib import Path
from typing import BinaryIO

from edge_agent.fetching import MANIFEST_LIMIT_BYTES
from edge_agent.wire import pack
from edge_agent.wire.errors import PackError, RankfleetError

TRIAL = "pack-trial"
NAME_DIGITS = 16


def install(state_dir: Path, name: str, bundle: BinaryIO) -> None:
    """Unpacks, verifies and tries the pack in the tar `bundle`, and moves it to where the agent looks for it.

    Raises:
        PackError: the bundle is none, the pack is not `name`, a file differs from the manifest, or does not load.
        OSError: the disk cannot be written.
    """
    clear(state_dir)
    trial = state_dir / TRIAL
    trial.mkdir(parents=True)
    try:
        _unpack(bundle, trial, name)
        _try(trial, pack.verify(trial))
        _move(trial, state_dir / "packs" / name)
    finally:
        clear(state_dir)


def remove(state_dir: Path, name: str) -> None:
    """Deletes a pack; one that is not there is no error. Raises OSError."""
    folder = state_dir / "packs" / name
    if folder.exists():
        shutil.rmtree(folder)


def clear(state_dir: Path) -> None:
    """Deletes what a trial left. Raises OSError."""
    if (state_dir / TRIAL).exists():
        shutil.rmtree(state_dir / TRIAL)


def _unpack(bundle: BinaryIO, folder: Path, name: str) -> None:
    try:
        with tarfile.open(fileobj=bundle, mode="r|") as tar:
            manifest: pack.Manifest | None = None
            for member in tar:
                manifest = _unpack_member(tar, member, folder, name, manifest)
    except (tarfile.TarError, EOFError) as error:
        raise PackError(f"expected a tar of a pack: {error}; make the bundle anew") from error


def _unpack_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str, manifest: pack.Manifest | None
) -> pack.Manifest:
    """The manifest comes first and says what else may come, and how large it is."""
    limit_bytes = MANIFEST_LIMIT_BYTES
    if manifest is not None:
        entry = manifest.files.get(member.name)
        limit_bytes = -1 if entry is None or (folder / member.name).exists() else entry.size_bytes
    elif member.name != pack.MANIFEST:
        limit_bytes = -1
    file = tar.extractfile(member) if member.isreg() and member.size <= limit_bytes else None
    if file is None:
        raise PackError(f"the bundle holds {member.name!r} of {member.size} bytes, which does not belong there")
    with file, (folder / member.name).open("xb") as out:
        shutil.copyfileobj(file, out)
    return manifest or _manifest(folder, name)


def _manifest(folder: Path, name: str) -> pack.Manifest:
    sha256 = hashlib.sha256((folder / pack.MANIFEST).read_bytes()).hexdigest()
    if sha256[:NAME_DIGITS] != name:
        raise PackError(f"the pack should be {name}, its manifest says {sha256[:NAME_DIGITS]}: make the bundle anew")
    return pack.load_manifest(folder)


def _try(folder: Path, manifest: pack.Manifest) -> None:
    """Loads every graph and the tokenizer, as a round would."""
    from tokenizers import Tokenizer  # noqa: PLC0415 (a removal needs neither)

    from edge_agent.engine.session import Graph  # noqa: PLC0415

    for name in manifest.files:
        if name.endswith(".onnx"):
            Graph(folder / name)
    try:
        Tokenizer.from_file(str(folder / pack.TOKENIZER))
    except Exception as error:  # the library's own errors share no base class
        raise PackError(f"{pack.TOKENIZER} cannot be loaded: {error}; build the pack again") from error


def _move(trial: Path, target: Path) -> None:
    """File by file, for the agent may have fetched some of them; the manifest comes last, as with a fetch."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(trial.iterdir(), key=lambda path: path.name == pack.MANIFEST):
        path.replace(target / path.name)


def main(arguments: list[str]) -> int:
    """Runs one command; the reason of a failure is on standard output, for libraries warn on standard error."""
    command, state_dir = arguments[0], Path(arguments[1])
    try:
        if command == "install":
            install(state_dir, arguments[2], sys.stdin.buffer)
        elif command == "remove":
            remove(state_dir, arguments[2])
        else:
            clear(state_dir)
    except (RankfleetError, OSError) as error:
        print(error)  # noqa: T201 (its one line of output)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
