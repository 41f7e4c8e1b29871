from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_agent.wire import sinks
from edge_agent.wire.errors import PayloadError, StoreError
from edge_agent.wire.messages import ObjectRef
from edge_agent.wire.pace import LEAST_CHUNK_BYTES
from edge_agent.wire.sinks import FileSink, MemorySink

DATA = bytes(range(250)) * 10
REF = ObjectRef("pack-file", hashlib.sha256(DATA).digest(), len(DATA))
BLOCK_BYTES = LEAST_CHUNK_BYTES


def fill(sink: FileSink | MemorySink, *indices: int) -> None:
    for index in indices:
        sink.write(index * BLOCK_BYTES, DATA[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])


def test_memory_holds_the_object_once_complete() -> None:
    sink = MemorySink()
    assert sink.open(REF) == bytes(3)
    fill(sink, 2, 0, 1)
    assert sink.sha256() == REF.sha256
    assert sink.data == b""
    sink.complete()
    assert sink.data == DATA


def test_memory_has_a_limit() -> None:
    with pytest.raises(PayloadError, match="2499"):
        MemorySink(2499).open(REF)


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "object")
    sink.open(REF)
    fill(sink, 1, 0, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["object.bitmap", "object.part"]
    assert sink.sha256() == REF.sha256
    sink.complete()
    assert [path.name for path in tmp_path.iterdir()] == ["object"]
    assert (tmp_path / "object").read_bytes() == DATA


def test_a_new_process_finds_what_came(tmp_path: Path) -> None:
    first = FileSink(tmp_path / "object")
    first.open(REF)
    fill(first, 2, 0)
    assert FileSink(tmp_path / "object").open(REF) == b"\x01\x00\x01"


def test_a_chunk_marks_all_of_its_blocks(tmp_path: Path) -> None:
    first = FileSink(tmp_path / "object")
    first.open(REF)
    first.write(BLOCK_BYTES, DATA[BLOCK_BYTES:])
    assert FileSink(tmp_path / "object").open(REF) == b"\x00\x01\x01"
    fill(first, 0)
    assert first.sha256() == REF.sha256


def test_leftovers_of_blocks_of_another_size_are_not_trusted(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks, "LEAST_CHUNK_BYTES", BLOCK_BYTES // 2)
        first = FileSink(tmp_path / "object")
        first.open(REF)
        fill(first, 1)
    assert FileSink(tmp_path / "object").open(REF) == bytes(3)


@pytest.mark.parametrize("damage", ["other object", "short bitmap", "cut bitmap", "no part", "short part"])
def test_leftovers_that_do_not_fit_are_not_trusted(tmp_path: Path, damage: str) -> None:
    first = FileSink(tmp_path / "object")
    ref = ObjectRef("pack-file", bytes(32), len(DATA)) if damage == "other object" else REF
    first.open(ref)
    fill(first, 0)
    bitmap, part = tmp_path / "object.bitmap", tmp_path / "object.part"
    if damage == "short bitmap":
        bitmap.write_bytes(bitmap.read_bytes()[:-1])
    elif damage == "cut bitmap":
        bitmap.write_bytes(bitmap.read_bytes()[:10])
    elif damage == "no part":
        part.unlink()
    elif damage == "short part":
        part.write_bytes(part.read_bytes()[:-1])
    assert FileSink(tmp_path / "object").open(REF) == bytes(3)
    assert part.stat().st_size == len(DATA)


def test_discard_leaves_nothing(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "object")
    sink.open(REF)
    sink.discard()
    assert not list(tmp_path.iterdir())


def test_too_little_room_is_said_before_anything_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=2100, f_frsize=1))
    first = FileSink(tmp_path / "object")
    with pytest.raises(StoreError, match=r"2500 bytes are still needed and the disk has 2100 free"):
        first.open(REF)
    fill(first, 0)
    assert FileSink(tmp_path / "object").open(REF) == b"\x01\x00\x00"


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sink = FileSink(tmp_path / "object")
    sink.open(REF)
    fill(sink, 0)
    with monkeypatch.context() as patch:
        patch.setattr(sinks, "_write_at", full)
        with pytest.raises(StoreError, match=r"No space left on device; 2048 bytes are still needed and the disk has"):
            fill(sink, 1)
    assert FileSink(tmp_path / "object").open(REF) == b"\x01\x00\x00"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        FileSink(tmp_path / "nowhere" / "object").open(REF)
