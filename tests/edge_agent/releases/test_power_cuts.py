"""A process that dies at any step of an upgrade leaves a whole release current, and the next run goes on from there.

An audit hook counts everything that the process does to the disk, and what it starts, and kills it at the given step.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.releases import store
from edge_agent.releases.change import Changer
from edge_agent.releases.layout import Board
from edge_agent.releases.limits import Limits
from edge_agent.releases.service_manager import NoManager
from tests.bundles import make_once, small_bundle
from tests.edge_agent.releases.boards import version_of

UPGRADE = """
import os, signal, sys
from pathlib import Path
from edge_agent.releases import change, store
from edge_agent.releases.layout import Board
from edge_agent.releases.service_manager import NoManager
import shutil

EVENTS = {"os.rename", "os.remove", "os.symlink", "os.mkdir", "os.rmdir", "shutil.rmtree", "subprocess.Popen"}
root, source, ready, last = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
steps = 0

def make(folder, unpacked, version):
    # Copied in one step: pip's own work on the new folder, which nothing points to, is one moment like another.
    shutil.copytree(ready, folder, symlinks=True)

def look(event, arguments):
    global steps
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (event in EVENTS or writes) and str(root) in repr(arguments) and "lib/python" not in repr(arguments):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

store.make = make
changer = change.Changer(Board(root), NoManager())
sys.addaudithook(look)
changer.install(source)
print(steps)
"""
LIMITS = Limits(idle_s=1, steady_s=0, poll_s=0.01)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_whenever_it_dies_a_whole_release_is_current_and_the_next_run_goes_on(
    stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "make", make_once)
    board, pristine = Board(tmp_path / "board"), tmp_path / "pristine"
    Changer(board, NoManager(), LIMITS).install(small_bundle(tmp_path, "1"))
    source = small_bundle(tmp_path, "2")
    ready = _environment(source, tmp_path)
    shutil.copytree(board.root, pristine, symlinks=True)
    last, current_at_the_end = 1, set[str]()
    while True:
        shutil.rmtree(board.root)
        shutil.copytree(pristine, board.root, symlinks=True)
        done = subprocess.run(
            [sys.executable, "-c", UPGRADE, str(board.root), str(source), str(ready), str(last)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        now = store.current(board)
        assert now is not None, f"no whole release after step {last}"
        assert version_of(now.folder) == now.version
        current_at_the_end.add(now.version)
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            break
        _next_run_goes_on(board, source, last)
        last += stride
    assert last > 15 and current_at_the_end == {"1", "2"}


def _environment(source: Path, folder: Path) -> Path:
    """What pip makes of the bundle `source`."""
    board = Board(folder / "made")
    return store.stage(board, source).folder


def _next_run_goes_on(board: Board, source: Path, last: int) -> None:
    changer = Changer(board, NoManager(), LIMITS)
    changer.recover()
    recovered = store.current(board)
    assert recovered is not None and not board.journal.exists(), last
    assert changer.install(source).release.version == "2"
    assert {path.name for path in board.home.iterdir()} == {"releases", "current", "previous"}, last
    assert {path.name for path in board.releases.iterdir()} == {"1", "2"}
