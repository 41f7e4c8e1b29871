from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.wire.errors import StoreError
from edge_agent.wire.folder_lock import LOCK, only_one

HOLD = """
import sys
from pathlib import Path
from edge_agent.wire.folder_lock import only_one
with only_one(Path(sys.argv[1]), "agent"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_folder_is_made(tmp_path: Path) -> None:
    with only_one(tmp_path / "new" / "state", "agent"):
        assert (tmp_path / "new" / "state" / LOCK).exists()


def test_one_after_the_other_may_have_it(tmp_path: Path) -> None:
    for _ in range(2):
        with only_one(tmp_path, "agent"):
            pass


def test_a_second_one_is_refused_with_the_folders_name(tmp_path: Path) -> None:
    with (
        only_one(tmp_path, "agent"),
        pytest.raises(StoreError, match=f"another agent is running in {tmp_path}"),
        only_one(tmp_path, "agent"),
    ):
        pass


def test_a_process_that_is_killed_gives_it_back(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(StoreError), only_one(tmp_path, "agent"):
        pass
    holder.kill()
    holder.communicate()
    with only_one(tmp_path, "agent"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"), only_one(tmp_path / "file" / "state", "agent"):
        pass
