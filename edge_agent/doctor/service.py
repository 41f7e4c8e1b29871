"""What one agent's configuration asks of the board: disk, memory, data, engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from edge_agent import config, memory
from edge_agent.data_files import data_files, entry_point_of
from edge_agent.doctor.finding import Finding
from edge_agent.wire.errors import RankfleetError
from edge_agent.wire.pack import FORWARD

LEAST_DISK_BYTES, AMPLE_DISK_BYTES = 200 * 10**6, 10**9
SELF_TEST_S = 120.0
_SELF_TEST = """
import sys
from pathlib import Path
import onnxruntime
from edge_agent.engine.session import Graph
for path in sys.argv[1:]:
    Graph(Path(path))
print(f"ONNX Runtime {onnxruntime.__version__}, {len(sys.argv) - 1} packs loaded")
"""
"""In a process of its own: a library that is built for another processor ends it with a signal."""


def disk(settings: config.AgentConfig) -> Finding:
    """Free space where the agent keeps its state, and whether it may write there."""
    folder = next(one for one in (settings.state_dir, *settings.state_dir.parents) if one.exists())
    usage = shutil.disk_usage(folder)
    found = f"{usage.free} of {usage.total} bytes are free at {folder}"
    try:
        with (folder / ".rankfleet-doctor").open("wb") as file:
            file.write(b"x")
        (folder / ".rankfleet-doctor").unlink()
    except OSError as error:
        remedy = "Give the agent's user a folder that it may write to, or mount the disk for writing."
        return Finding("disk", "failure", f"{folder} cannot be written: {error.strerror}", remedy)
    if usage.free < LEAST_DISK_BYTES:
        return Finding("disk", "failure", found, f"Free at least {LEAST_DISK_BYTES} bytes: a pack alone takes 25 MB.")
    if usage.free < AMPLE_DISK_BYTES:
        return Finding("disk", "warning", found, "Free some more: larger packs and what is kept beside them need it.")
    return Finding("disk", "ok", found)


def budget(settings: config.AgentConfig) -> Finding:
    """The memory that the agent may use, and what there is."""
    available_bytes = memory.available_bytes()
    found = f"{available_bytes} of {memory.total_bytes()} bytes are available"
    try:
        budget_bytes = config.budget_bytes(settings, available_bytes)
    except RankfleetError as error:
        return Finding("memory", "failure", str(error), "Lower memory.budget_bytes, or free memory.")
    return Finding("memory", "ok", f"{found}, the budget is {budget_bytes}")


def data(settings: config.AgentConfig) -> Finding:
    """Whether there are texts to train on. What is in them is read when the agent has joined, and knows the classes.

    An entry point is not called: that is the trainer's business alone.
    """
    if entry_point_of(settings.data) is not None:
        return Finding("data", "ok", f"{settings.data} is called when the agent has joined")
    try:
        files = data_files(settings.data)
        size_bytes = sum(_readable_bytes(path) for path in files)
    except OSError as error:
        remedy = "Put the texts there, or change 'data'; see docs/data.md."
        named = error.filename or settings.data
        return Finding("data", "failure", f"{named} cannot be read: {error.strerror}", remedy)
    if not size_bytes:
        return Finding("data", "failure", f"{settings.data} is empty", "Put the device's texts there.")
    return Finding("data", "ok", f"{settings.data}, {size_bytes} bytes in {len(files)} files")


def _readable_bytes(path: Path) -> int:
    with path.open("rb") as file:
        file.read(1)
        return path.stat().st_size


def engine(settings: config.AgentConfig) -> Finding:
    """Whether ONNX Runtime runs here, and loads the packs that are on disk."""
    packs = sorted(settings.state_dir.glob(f"packs/*/{FORWARD}"))
    command = [sys.executable, "-c", _SELF_TEST, *map(str, packs)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SELF_TEST_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("engine", "failure", f"no answer within {SELF_TEST_S:g} s", "Is the board starved of memory?")
    if done.returncode < 0:
        remedy = "The installed onnxruntime is not for this processor: install the wheel for this board's architecture."
        return Finding("engine", "failure", f"killed by signal {-done.returncode}", remedy)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding("engine", "failure", last, "Install rankfleet anew, or delete the pack: it is fetched again.")
    return Finding("engine", "ok", done.stdout.strip())


def folders(settings: config.AgentConfig) -> tuple[Path, ...]:
    """What the agent writes all the time."""
    return tuple(settings.state_dir.glob("agent.db*"))
