"""A pack that is damaged, or does not load, leaves nothing behind; a good one lies where the agent looks for it."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import msgspec
import pytest

from edge_agent.fetching import Fetcher
from edge_agent.updating import pack_trial
from edge_agent.wire import pack
from edge_agent.wire.errors import PackError
from tests.models import tiny_pack


def name_of(folder: Path) -> str:
    return pack.file_sha256(folder / pack.MANIFEST)[:16]


def bundle(folder: Path, names: list[str] | None = None, link: str = "") -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in names or [pack.MANIFEST, *pack.load_manifest(folder).files]:
            tar.add(folder / name, name)
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    data.seek(0)
    return data


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pack(), tmp_path / "pack"))


def test_a_good_pack_lies_where_the_agent_looks_for_it(tmp_path: Path) -> None:
    source, state_dir = tiny_pack(), tmp_path / "state"
    pack_trial.install(state_dir, name_of(source), bundle(source))
    folder = Fetcher(state_dir).pack_dir(bytes.fromhex(pack.file_sha256(source / pack.MANIFEST)))
    assert pack.verify(folder) == pack.load_manifest(source)
    assert [path.name for path in state_dir.iterdir()] == ["packs"]


def test_a_pack_that_the_agent_has_half_of_is_completed(tmp_path: Path) -> None:
    source, folder = tiny_pack(), tmp_path / "packs" / name_of(tiny_pack())
    folder.mkdir(parents=True)
    (folder / pack.WEIGHTS).write_bytes(b"half")
    pack_trial.install(tmp_path, folder.name, bundle(source))
    pack.verify(folder)


def refused(state_dir: Path, name: str, data: io.BytesIO, why: str) -> None:
    with pytest.raises(PackError, match=why):
        pack_trial.install(state_dir, name, data)
    assert not list(state_dir.iterdir())


def test_a_pack_that_does_not_load_is_refused(copy: Path, tmp_path: Path) -> None:
    """Its checksums are right: it was built wrongly, or for a newer runtime."""
    (copy / pack.BACKWARD).write_bytes(b"no graph")
    manifest = pack.load_manifest(copy)
    entry = pack.FileEntry(pack.file_sha256(copy / pack.BACKWARD), 8)
    write_manifest(copy, manifest, {**manifest.files, pack.BACKWARD: entry})
    (tmp_path / "state").mkdir()
    refused(tmp_path / "state", name_of(copy), bundle(copy), "backward")


def write_manifest(folder: Path, manifest: pack.Manifest, files: dict[str, pack.FileEntry]) -> None:
    changed = msgspec.structs.replace(manifest, files=files)
    (folder / pack.MANIFEST).write_bytes(msgspec.json.encode(changed))


def test_a_pack_whose_tokenizer_does_not_load_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / pack.TOKENIZER).write_bytes(b"{}")
    manifest = pack.load_manifest(copy)
    entry = pack.FileEntry(pack.file_sha256(copy / pack.TOKENIZER), 2)
    write_manifest(copy, manifest, {**manifest.files, pack.TOKENIZER: entry})
    (tmp_path / "state").mkdir()
    refused(tmp_path / "state", name_of(copy), bundle(copy), "tokenizer")


def test_a_flipped_byte_is_found(copy: Path, tmp_path: Path) -> None:
    data = bytearray((copy / pack.WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / pack.WEIGHTS).write_bytes(data)
    (tmp_path / "state").mkdir()
    refused(tmp_path / "state", name_of(copy), bundle(copy), "weights.bin")


@pytest.mark.parametrize("cut_bytes", [0, 100, 5000])
def test_a_bundle_that_is_cut_short_is_refused(cut_bytes: int, tmp_path: Path) -> None:
    data = io.BytesIO(bundle(tiny_pack()).getvalue()[:cut_bytes])
    refused(tmp_path, name_of(tiny_pack()), data, r"tar of a pack|manifest\.json|cannot be read")


def test_what_is_no_part_of_a_pack_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "more.txt").write_bytes(b"")
    (tmp_path / "state").mkdir()
    every = [pack.MANIFEST, *pack.load_manifest(copy).files]
    refused(tmp_path / "state", name_of(copy), bundle(copy, [*every, "more.txt"]), "more.txt")
    refused(tmp_path / "state", name_of(copy), bundle(copy, [pack.WEIGHTS, pack.MANIFEST]), "weights.bin")
    refused(tmp_path / "state", name_of(copy), bundle(copy, [pack.MANIFEST, pack.WEIGHTS, pack.WEIGHTS]), "weights.bin")
    refused(tmp_path / "state", name_of(copy), bundle(copy, every[:-1]), "cannot be read")
    refused(tmp_path / "state", name_of(copy), bundle(copy, [pack.MANIFEST], link=pack.WEIGHTS), "weights.bin")
    refused(tmp_path / "state", "0" * 16, bundle(copy), "the pack should be 0000")


def test_a_pack_is_removed_and_what_a_killed_trial_left_too(tmp_path: Path) -> None:
    for folder in ("packs/0123456789abcdef", pack_trial.TRIAL):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(b"")
    pack_trial.remove(tmp_path, "0123456789abcdef")
    pack_trial.remove(tmp_path, "0123456789abcdef")
    pack_trial.clear(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["packs"]
