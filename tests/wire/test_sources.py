from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.errors import StoreError
from edge_agent.wire.sources import BytesSource, FileSource, Source

DATA = bytes(range(100))


def sources(folder: Path) -> list[Source]:
    path = folder / "object"
    path.write_bytes(DATA)
    return [BytesSource(DATA), FileSource(path)]


def test_any_part_can_be_read(tmp_path: Path) -> None:
    for source in sources(tmp_path):
        assert source.size_bytes == len(DATA)
        assert source.read(0, 100) == DATA
        assert source.read(30, 5) == DATA[30:35]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        FileSource(tmp_path / "nowhere")


def test_a_file_that_became_shorter_is_never_served_short(tmp_path: Path) -> None:
    source = sources(tmp_path)[1]
    (tmp_path / "object").write_bytes(DATA[:50])
    with pytest.raises(StoreError, match="shorter"):
        source.read(40, 20)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    source = sources(tmp_path)[1]
    (tmp_path / "object").unlink()
    with pytest.raises(StoreError, match="object"):
        source.read(0, 1)
