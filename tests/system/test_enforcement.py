"""A round within its budget where the kernel enforces it: the trainer process in a memory cgroup, caches cold.

The group counts the trainer's anonymous memory, as the budget does, and beside it every page of a file that it is the
first to touch: those the kernel takes back when the limit is met, and reads again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from deploy.packs.build import build_pack
from edge_agent import jobs
from edge_agent.planning import choose_plan
from edge_agent.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire.errors import BudgetError, RankfleetError
from edge_agent.workspace import Workspace
from profiling.cgroup import MemoryCgroup, drop_caches, memory_cgroup
from tests.agents import TRAINING, make_terms, make_welcome, plan_for
from tests.models import WORDS, tiny_model
from tests.runs import CLASSES

MIB = 2**20
AMPLE_BYTES = 1024 * MIB
SHARED_BYTES = 288 * MIB
"""What the trainer and its neighbour have together."""
LEFT_BYTES = 32 * MIB
"""What the neighbour leaves: enough for a step, too little for file pages beside what is kept."""
WIDE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "max_position_embeddings": 130}
STEPS = 12
_NEIGHBOUR = """
import sys
from edge_agent import memory
sys.stdin.readline()
eaten = []
while memory.available_bytes() > int(sys.argv[1]):
    eaten.append(b"x" * 2**20)
print(len(eaten) * 2**20, flush=True)
sys.stdin.read()
"""


@contextmanager
def limited(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """A memory cgroup with cold caches, or a skipped test that says why."""
    try:
        with memory_cgroup(limit_bytes) as group:
            drop_caches()
            yield group
    except RankfleetError as error:
        pytest.skip(f"NOT ENFORCED on this machine, so not tested: {error}")


@pytest.fixture(scope="module")
def terms(tmp_path_factory: pytest.TempPathFactory) -> jobs.Terms:
    """A device whose model and texts cost memory that shows; the trainer is the whole process tree."""
    folder = tmp_path_factory.mktemp("agent")
    build_pack(tiny_model(folder / "model", vocabulary=WORDS, **WIDE), folder / "pack")
    training = msgspec.structs.replace(TRAINING, batch_size=8, local_steps=STEPS, max_tokens=128)
    texts = ({"text": " ".join(WORDS[i : i + 60] * 2), "label": CLASSES[i % 3]} for i in range(30))
    data = folder / "long.jsonl"
    data.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    return make_terms(
        folder,
        welcome=msgspec.structs.replace(make_welcome(folder / "pack"), training=training),
        pack_dir=str(folder / "pack"),
        data=str(data),
        budget_bytes=AMPLE_BYTES,
        supervisor_bytes=0,
    )


@pytest.fixture(scope="module")
def capability(terms: jobs.Terms) -> m.Capability:
    """What the device measures of itself, without a limit."""
    with trainer([], jobs.MeasureJob(terms, 10**6, None)) as process:
        result = last_line(process)
    assert isinstance(result, jobs.MeasureResult), result
    return result.capability


@contextmanager
def trainer(prefix: list[str], job: jobs.AnyJob) -> Iterator[subprocess.Popen[bytes]]:
    """The trainer process as the supervisor starts it, behind the command `prefix`."""
    command = [*prefix, sys.executable, "-m", "edge_agent.trainer_process"]
    environment = jobs.trainer_environment(job.terms.threads)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def last_line(process: subprocess.Popen[bytes]) -> jobs.AnyLine:
    assert process.stdout is not None
    lines = [msgspec.json.decode(line, type=jobs.AnyLine) for line in process.stdout]
    assert lines, f"the trainer said nothing and ended with status {process.wait()}"
    return lines[-1]


def train_job(terms: jobs.Terms, capability: m.Capability, store: Path, budget_bytes: int) -> jobs.TrainJob:
    """A first round that trains everything within `budget_bytes`."""
    terms = msgspec.structs.replace(terms, store=str(store), budget_bytes=budget_bytes)
    state = Workspace(terms).state()
    return jobs.TrainJob(terms, plan_for(state), (), msgspec.structs.replace(capability, budget_bytes=budget_bytes))


def smallest_budget_bytes(terms: jobs.Terms, capability: m.Capability, store: Path) -> int:
    """The budget that the refusal of a far smaller one names."""
    job = train_job(terms, capability, store, 1)
    space = Workspace(job.terms)
    mask = space.layout.full_mask()
    with pytest.raises(BudgetError) as raised:
        choose_plan(space, job.capability, mask, mask, 0, longest=space.max_tokens)
    return raised.value.smallest_budget_bytes


def report_of(store: Path) -> m.RoundReport:
    outgoing = Store(store).outgoing()
    assert outgoing is not None and outgoing.body
    return msgspec.msgpack.decode(outgoing.report, type=m.RoundReport)


def told(group: MemoryCgroup, report: m.RoundReport) -> None:
    """For whoever reads the test's output."""
    counted = {"predicted_bytes": report.predicted_bytes, "anonymous_bytes": report.peak_anonymous_bytes}
    sys.stdout.write(f"{msgspec.to_builtins(group.usage()) | counted}\n")


@pytest.mark.slow
@pytest.mark.parametrize("times", [1.0, 1.5])
def test_a_round_fits_into_its_budget(
    tmp_path: Path, terms: jobs.Terms, capability: m.Capability, times: float
) -> None:
    budget_bytes = int(times * smallest_budget_bytes(terms, capability, tmp_path / "none.db"))
    job = train_job(terms, capability, tmp_path / "agent.db", budget_bytes)
    with limited(budget_bytes) as group:
        with trainer(group.command([]), job) as process:
            result = last_line(process)
        usage = group.usage()
        assert isinstance(result, jobs.TrainResult), result
        told(group, report_of(tmp_path / "agent.db"))
    assert usage.oom_kills == 0
    assert usage.peak_bytes <= budget_bytes


@pytest.mark.slow
def test_a_neighbour_that_eats_memory_makes_the_round_go_on_with_less(
    tmp_path: Path, terms: jobs.Terms, capability: m.Capability
) -> None:
    ample = train_job(terms, capability, tmp_path / "agent.db", AMPLE_BYTES)
    with limited(SHARED_BYTES) as group, neighbour(group) as eater:
        with trainer(group.command([]), ample) as process:
            assert process.stdout is not None and eater.stdin is not None
            first = msgspec.json.decode(process.stdout.readline(), type=jobs.AnyLine)
            assert isinstance(first, jobs.Step) and first.step < STEPS, "a step was taken, and more are to come"
            eater.stdin.write(b"eat\n")
            eater.stdin.flush()
            result = last_line(process)
        usage = group.usage()
        report = report_of(tmp_path / "agent.db")
        told(group, report)
    assert isinstance(result, jobs.TrainResult), result
    assert usage.oom_kills == 0
    assert report.step_downs > 0 and report.kept_blocks == 0
    assert report.steps == STEPS


@contextmanager
def neighbour(group: MemoryCgroup) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the group that, once told to, takes memory until little is left, and holds it."""
    command = group.command([sys.executable, "-c", _NEIGHBOUR, str(LEFT_BYTES)])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
