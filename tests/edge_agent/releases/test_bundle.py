"""A bundle is taken whole and unaltered, or not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.releases import bundle
from edge_agent.releases.bundle import MANIFEST, Manifest, check_board, parse, unpack, wheel
from edge_agent.wire.errors import ReleaseError
from tests.bundles import small_bundle

CONTENT = b"a wheel"
WHEEL = "wheels/rankfleet-1.0-py3-none-any.whl"
MEMBERS = [(WHEEL, CONTENT)]
SHA256 = st.binary(min_size=32, max_size=32).map(bytes.hex)


def manifest(**files: str) -> Manifest:
    return Manifest("1.0", "aarch64", "3.11", files or {WHEEL: hashlib.sha256(CONTENT).hexdigest()})


def tar(
    path: Path,
    members: list[tuple[str, bytes]],
    head: bytes | None = None,
    change: Callable[[tarfile.TarInfo], None] = lambda member: None,
) -> Path:
    """A tar with a manifest and `members`, whose headers `change` may alter."""
    with tarfile.open(path, "w") as file:
        for name, content in [(MANIFEST, head or manifest().to_json()), *members]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if name != MANIFEST:
                change(member)
            file.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "unpacked"
    made.mkdir()
    return made


def test_a_bundle_is_unpacked_as_it_was_made(tmp_path: Path, folder: Path) -> None:
    made = small_bundle(tmp_path, "1.2.3")
    told = unpack(made, folder)
    assert made.name == told.name and told.version == "1.2.3"
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in told.files} == told.files
    assert wheel(folder, "rankfleet").name == "rankfleet-1.2.3-py3-none-any.whl"
    assert wheel(folder, "pip").suffix == ".whl"
    with pytest.raises(ReleaseError, match="no wheel of numpy"):
        wheel(folder, "numpy")


@given(st.dictionaries(st.from_regex(r"wheels/[a-z]{1,9}\.whl", fullmatch=True), SHA256))
def test_a_manifest_is_read_as_it_was_written(files: dict[str, str]) -> None:
    told = Manifest("0.1.0", "x86_64", "3.14", files)
    assert parse(told.to_json()) == told
    assert parse(told.to_json()).digest == told.digest


@given(st.binary(max_size=200))
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ReleaseError, match=r"manifest\.json of the bundle"):
        parse(data)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"wheels/../../etc/passwd.whl": "0" * 64}, "wheels/NAME"),
        ({"/etc/passwd": "0" * 64}, "wheels/NAME"),
        ({"wheels/a.sh": "0" * 64}, "wheels/NAME"),
        ({WHEEL: "0" * 63}, "sha256"),
        ({WHEEL: None}, "sha256"),
    ],
)
def test_a_manifest_names_only_wheels_and_checksums(files: dict[str, str], words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        parse(manifest(**files).to_json())


def test_a_version_cannot_lead_out_of_the_folder_of_releases() -> None:
    with pytest.raises(ReleaseError, match="a version like"):
        parse(Manifest("../../etc", "aarch64", "3.11", {}).to_json())


def test_what_is_altered_missing_or_besides_is_refused(tmp_path: Path, folder: Path) -> None:
    cases: dict[str, tuple[list[tuple[str, bytes]], str]] = {
        "altered": ([(WHEEL, b"another")], "not as its manifest says"),
        "missing": ([], f"lacks {WHEEL}: it was cut short"),
        "besides": ([*MEMBERS, ("wheels/more.whl", b"")], "holds 'wheels/more.whl', its manifest does not"),
        "twice": ([*MEMBERS, *MEMBERS], "its manifest does not"),
    }
    for number, (members, words) in enumerate(cases.values()):
        part = folder / str(number)
        part.mkdir()
        with pytest.raises(ReleaseError, match=words):
            unpack(tar(tmp_path / "altered.tar", members), part)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_only_plain_files_are_taken(kind: bytes, tmp_path: Path, folder: Path) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    with pytest.raises(ReleaseError, match="no plain file"):
        unpack(tar(tmp_path / "link.tar", MEMBERS, change=change), folder)
    assert not list((folder / "wheels").iterdir())


def test_a_bundle_has_its_limits(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_BYTES", 10)
    with pytest.raises(ReleaseError, match="more than 1000 files or 10 bytes"):
        unpack(tar(tmp_path / "large.tar", MEMBERS), folder)
    monkeypatch.setattr(bundle, "MOST_MANIFEST_BYTES", 10)
    monkeypatch.setattr(bundle, "MOST_BYTES", 2**30)
    with pytest.raises(ReleaseError, match=r"does not begin with manifest\.json"):
        unpack(tar(tmp_path / "large.tar", MEMBERS), folder)


def test_a_bundle_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tar(tmp_path / "whole.tar", MEMBERS).read_bytes()
    used_bytes = 512 * 5 - (512 - len(CONTENT)) % 512
    for length in [*range(0, used_bytes, 101), used_bytes - 512]:
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        folder = tmp_path / str(length)
        folder.mkdir()
        with pytest.raises(ReleaseError):
            unpack(tmp_path / "cut.tar", folder)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ReleaseError, match=r"none\.tar"):
        unpack(tmp_path / "none.tar", folder)


def test_another_machines_bundle_is_refused_with_the_command_that_makes_the_right_one() -> None:
    with pytest.raises(ReleaseError, match=r"for riscv64 with Python 3\.11.*rankfleet deploy bundle --target"):
        check_board(Manifest("1.0", "riscv64", "3.11", {}))
