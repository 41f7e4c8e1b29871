from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.errors import StoreError
from profiling.files import write_atomically


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    for data in (b"first", b"second"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert [path] == list(path.parent.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StoreError, match=r"taken/file\.json cannot be written"):
        write_atomically(tmp_path / "taken" / "file.json", b"data")
