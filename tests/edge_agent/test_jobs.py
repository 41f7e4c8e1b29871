"""Jobs in the real trainer process, on the tiny pack."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent import jobs
from edge_agent.service import patience
from edge_agent.store import Store
from edge_agent.wire import codec
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.class_statistics import statistics_layout
from edge_agent.wire.crash_points import Crash, Point, environment
from edge_agent.wire.pack import BACKWARD, FORWARD, MANIFEST, load_manifest
from edge_agent.wire.ranks import HEAD, pack_mask
from tests.agents import PATIENCE_S, make_terms, plan_for, seed_state, snapshot, tiny_layout, write_data
from tests.models import tiny_pack
from tests.runs import CAPABILITY, make_state


def run(job: jobs.AnyJob) -> list[jobs.AnyLine]:
    """Everything that a job says, the result last."""
    runner, lines = jobs.Runner(), list[jobs.AnyLine]()
    runner.start(job)
    limit_s = time.monotonic() + PATIENCE_S
    while not lines or isinstance(lines[-1], jobs.Step):
        assert time.monotonic() < limit_s, f"no result; it said {lines}"
        line = runner.poll()
        if line is not None:
            lines.append(line)
        time.sleep(0.01)
    assert runner.poll() is None, "a job has one result"
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agent")


@pytest.fixture(scope="module")
def terms(folder: Path) -> jobs.Terms:
    return make_terms(folder)


@pytest.fixture(scope="module")
def measured(terms: jobs.Terms) -> jobs.MeasureResult:
    (result,) = run(jobs.MeasureJob(terms, link_bytes_per_s=12_345, known=None))
    assert isinstance(result, jobs.MeasureResult), result
    return result


@pytest.fixture(scope="module")
def trained(terms: jobs.Terms, measured: jobs.MeasureResult) -> list[jobs.AnyLine]:
    return run(jobs.TrainJob(terms, plan_for(seed_state()), (), measured.capability))


def test_the_device_is_measured(measured: jobs.MeasureResult) -> None:
    assert (measured.examples + measured.holdout, measured.longest_tokens) == (30, 5)
    assert measured.holdout > 0
    assert measured.capability.budget_bytes == 2**31
    assert measured.capability.link_bytes_per_s == 12_345
    assert measured.capability.cost.base_bytes > 2**20


def test_a_round_leaves_an_update_that_the_coordinator_can_read(
    terms: jobs.Terms, measured: jobs.MeasureResult, trained: list[jobs.AnyLine]
) -> None:
    assert trained[-1] == jobs.TrainResult(1)
    outgoing = Store(Path(terms.store)).outgoing()
    assert outgoing is not None and outgoing.round == 1
    layout = tiny_layout()
    update = codec.decode_update(outgoing.body, layout, limit_bytes=codec.update_limit_bytes(layout))
    assert (update.round, update.version, update.examples) == (1, 0, measured.examples)
    report = msgspec.msgpack.decode(outgoing.report, type=m.RoundReport)
    assert (report.steps, report.holdout_total) == (3, measured.holdout)
    assert [phase.name for phase in report.phases] == ["load", "evaluate", "train", "score", "compress"]
    assert report.peak_rss_bytes > report.peak_anonymous_bytes > terms.supervisor_bytes


def test_a_round_that_is_in_the_outbox_already_is_not_trained_again(
    terms: jobs.Terms, measured: jobs.MeasureResult, trained: list[jobs.AnyLine]
) -> None:
    """Its process died after the transaction: another training would count what quantisation lost twice."""
    store = Store(Path(terms.store))
    before = store.model(), store.outgoing()
    again = jobs.TrainJob(terms, plan_for(seed_state(), budget_ranks=1), (), measured.capability)
    assert run(again) == [jobs.TrainResult(1)]
    assert (store.model(), store.outgoing()) == before


def test_an_update_that_was_never_offered_leaves_no_trace(
    tmp_path: Path, terms: jobs.Terms, measured: jobs.MeasureResult, trained: list[jobs.AnyLine]
) -> None:
    """The next round came while its own was training: that one is as if it were the first."""
    made = []
    for earlier in (False, True):
        folder = tmp_path / str(earlier)
        folder.mkdir()
        own = make_terms(folder)
        numbers = (1, 2) if earlier else (2,)
        for number in numbers:
            assert run(jobs.TrainJob(own, plan_for(seed_state(), round=number), (), measured.capability))[-1] == (
                jobs.TrainResult(number)
            )
        store = Store(Path(own.store))
        made.append((store.model(), store.outgoing()))
    (alone, first), (after, second) = made
    assert alone == after and first is not None and second is not None and first.sha256 == second.sha256


def test_a_killed_round_goes_on_from_its_checkpoint_and_leaves_the_same_update(
    tmp_path: Path,
    terms: jobs.Terms,
    measured: jobs.MeasureResult,
    trained: list[jobs.AnyLine],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    own = make_terms(tmp_path, checkpoint_s=1e-6)
    job = jobs.TrainJob(own, plan_for(seed_state()), (), measured.capability)
    crash = Crash(Point.TRAINER_CHECKPOINTED, 2, tmp_path / "reached")
    for name, value in environment(crash).items():
        monkeypatch.setenv(name, value)
    failure = run(job)[-1]
    assert isinstance(failure, jobs.Failure) and failure.killed
    assert run(job)[-1] == jobs.TrainResult(1)
    assert "training goes on after step 2" in capfd.readouterr().err
    whole, resumed = Store(Path(terms.store)), Store(Path(own.store))
    (body, again), models = [one.outgoing() for one in (whole, resumed)], [one.model() for one in (whole, resumed)]
    assert body is not None and again is not None and body.sha256 == again.sha256
    assert models[0] == models[1] is not None
    assert resumed.midway() is None


@pytest.mark.parametrize("work", ["class_means", "class_axes"])
def test_a_round_for_statistics_of_classes_trains_nothing(
    tmp_path: Path, terms: jobs.Terms, measured: jobs.MeasureResult, work: m.PlanWork
) -> None:
    own, model_layout = make_terms(tmp_path), tiny_layout()
    layout = statistics_layout(model_layout)
    plan = plan_for(seed_state(), work=work)
    assert run(jobs.TrainJob(own, plan, (), measured.capability)) == [jobs.TrainResult(1)]
    outgoing, model = Store(Path(own.store)).outgoing(), Store(Path(own.store)).model()
    assert outgoing is not None and model is not None
    update = codec.decode_update(outgoing.body, layout, limit_bytes=codec.update_limit_bytes(layout))
    table = update.changes.rows()[HEAD]
    assert update.changes.classes[:3].all(), "every class occurs in the data"
    assert table[:3, -1].sum() == pytest.approx(1)
    assert (len(table) > 3) == (work == "class_axes")
    report = msgspec.msgpack.decode(outgoing.report, type=m.RoundReport)
    assert (report.examples, report.steps, report.loss, report.step_s) == (measured.examples, 0, None, None)
    assert (report.depth, report.ranks, report.holdout_total) == (0, 0, measured.holdout)
    assert [phase.name for phase in report.phases] == ["load", "evaluate", "train", "compress"]
    assert states.digest(states.from_bytes(model.state, model_layout)) == plan.state_sha256


def test_a_round_above_frozen_blocks_keeps_what_they_put_out(
    tmp_path: Path, terms: jobs.Terms, measured: jobs.MeasureResult
) -> None:
    state, layout = seed_state(), tiny_layout()
    above = np.array([module.block for module in layout.modules])[:, None] >= 2
    plan = plan_for(state, trained=pack_mask(state.mask & above), lowest_block=2)
    training = msgspec.structs.replace(terms.welcome.training, local_steps=12)
    bodies = []
    for name, limit_bytes in (("without", 0), ("with", 10**6)):
        (tmp_path / name).mkdir()
        own = make_terms(
            tmp_path / name,
            welcome=msgspec.structs.replace(terms.welcome, training=training),
            prefix_limit_bytes=limit_bytes,
        )
        assert run(jobs.TrainJob(own, plan, (), measured.capability))[-1] == jobs.TrainResult(1)
        outgoing = Store(Path(own.store)).outgoing()
        assert outgoing is not None
        bodies.append(codec.decode_update(outgoing.body, layout, limit_bytes=codec.update_limit_bytes(layout)))
    assert not (tmp_path / "without" / "prefix").exists()
    (kept,) = (tmp_path / "with" / "prefix").iterdir()
    assert 0 < kept.stat().st_size <= 10**6
    assert np.allclose(*(update.scores for update in bodies), atol=0.01)


def test_the_last_step_is_told(trained: list[jobs.AnyLine]) -> None:
    last = trained[-2]
    assert isinstance(last, jobs.Step) and (last.step, last.steps) == (3, 3)


def test_a_final_brings_the_state_forward_and_evaluates_it(
    terms: jobs.Terms, measured: jobs.MeasureResult, trained: list[jobs.AnyLine], tmp_path: Path
) -> None:
    state = make_state(5)
    (tmp_path / "snapshot").write_bytes(states.to_bytes(state))
    job = jobs.FinalJob(terms, m.Final(5, (), states.digest(state)), (str(tmp_path / "snapshot"),), measured.capability)
    (result,) = run(job)
    assert isinstance(result, jobs.FinalResult), result
    assert (result.version, result.total) == (5, measured.holdout)
    kept = Store(Path(terms.store)).model()
    assert kept is not None and states.digest(states.from_bytes(kept.state, tiny_layout())) == states.digest(state)


def test_a_final_is_kept_where_there_is_no_memory_to_evaluate_it(tmp_path: Path, measured: jobs.MeasureResult) -> None:
    """A device that cannot train predicts with the fleet's model nevertheless."""
    terms, state = make_terms(tmp_path), make_state(3)
    ref, body = snapshot(state)
    path = tmp_path / "object"
    path.write_bytes(body)
    tiny = msgspec.structs.replace(measured.capability, budget_bytes=1)
    final = m.Final(3, (ref,), states.digest(state))
    assert run(jobs.FinalJob(terms, final, (str(path),), tiny))[-1] == jobs.FinalResult(3, 0, 0)
    kept = Store(Path(terms.store)).model()
    assert kept is not None and states.digest(states.from_bytes(kept.state, tiny_layout())) == states.digest(state)


def test_another_state_than_the_coordinators_is_not_trained(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(plan_for(seed_state()), state_sha256=bytes(32))
    (result,) = run(jobs.TrainJob(make_terms(tmp_path), plan, (), CAPABILITY))
    assert isinstance(result, jobs.Failure) and "is not the coordinator's version 0" in result.reason


def test_objects_that_are_not_there_are_a_failure_with_advice(tmp_path: Path) -> None:
    job = jobs.TrainJob(make_terms(tmp_path), plan_for(seed_state()), (str(tmp_path / "delta"),), CAPABILITY)
    (result,) = run(job)
    assert isinstance(result, jobs.Failure) and "delta cannot be read" in result.reason


@pytest.mark.parametrize("family", ["distilbert", "gpt2"])
@pytest.mark.parametrize("graph", [FORWARD, BACKWARD])
def test_graphs_of_another_pack_are_a_failure_with_advice(tmp_path: Path, graph: str, family: str) -> None:
    pack_dir = shutil.copytree(tiny_pack(), tmp_path / "pack")
    shutil.copy(tiny_pack(family=family) / graph, pack_dir / graph)
    terms = make_terms(tmp_path, pack_dir=str(pack_dir))
    (result,) = run(jobs.TrainJob(terms, plan_for(seed_state()), (), CAPABILITY))
    assert isinstance(result, jobs.Failure) and result.reason.endswith("build it again"), result


def test_a_pack_whose_tensors_do_not_fit_is_a_failure_that_names_them(tmp_path: Path) -> None:
    pack_dir = shutil.copytree(tiny_pack(), tmp_path / "pack")
    manifest = load_manifest(pack_dir)
    scale = "block.0.attention.self.query.weight.scale"
    entry = msgspec.structs.replace(manifest.tensors[scale], shape=(16, 2))
    unfit = msgspec.structs.replace(manifest, tensors={**manifest.tensors, scale: entry})
    (pack_dir / MANIFEST).write_bytes(msgspec.json.encode(unfit))
    (result,) = run(jobs.MeasureJob(make_terms(tmp_path, pack_dir=str(pack_dir)), 1, None))
    assert isinstance(result, jobs.Failure) and f"{scale} should have the shape (32,)" in result.reason


@pytest.mark.parametrize("kind", [jobs.MeasureJob, jobs.TrainJob])
def test_garbage_in_the_data_names_the_file_and_the_line_and_nothing_of_it(
    tmp_path: Path, kind: type[jobs.MeasureJob] | type[jobs.TrainJob]
) -> None:
    terms = make_terms(tmp_path)
    with write_data(tmp_path / "texts.jsonl", 4).open("a") as file:
        file.write('{"text": "secret", "label": \n')
    if kind is jobs.MeasureJob:
        job: jobs.AnyJob = jobs.MeasureJob(terms, 1, CAPABILITY)
    else:
        job = jobs.TrainJob(terms, plan_for(seed_state()), (), CAPABILITY)
    (result,) = run(job)
    assert isinstance(result, jobs.Failure)
    assert "texts.jsonl, line 5" in result.reason and "secret" not in result.reason


def test_a_budget_in_which_nothing_fits_names_the_smallest_that_does(tmp_path: Path) -> None:
    terms = make_terms(tmp_path, budget_bytes=2**20)
    (result,) = run(jobs.MeasureJob(terms, 1, None))
    assert isinstance(result, jobs.Failure) and result.smallest_budget_bytes is not None
    assert result.smallest_budget_bytes > 2**20


def started(terms: jobs.Terms) -> tuple[jobs.Runner, subprocess.Popen[bytes]]:
    runner = jobs.Runner()
    runner.start(jobs.MeasureJob(terms, 1, None))
    process = runner._process
    assert process is not None
    return runner, process


def test_a_killed_trainer_is_a_failure_that_names_the_likely_cause(tmp_path: Path) -> None:
    runner, process = started(make_terms(tmp_path))
    process.kill()
    process.wait()
    line = None
    while line is None:
        line = runner.poll()
    assert isinstance(line, jobs.Failure) and line.killed and "killed by signal 9" in line.reason
    assert runner.poll() is None


def test_a_trainer_that_hangs_is_ended_and_may_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "STILL_S", 1.0)
    monkeypatch.setattr(jobs, "LOOK_EVERY_S", 0.1)
    runner, process = started(make_terms(tmp_path))
    process.send_signal(signal.SIGSTOP)
    failure, limit_s = None, time.monotonic() + PATIENCE_S
    while failure is None and time.monotonic() < limit_s:
        failure = runner.poll()
        time.sleep(0.01)
    assert isinstance(failure, jobs.Failure) and failure.killed
    assert "used no processor time" in failure.reason
    assert process.poll() is not None
    assert runner.poll() is None


def test_a_stopped_job_says_nothing_more(tmp_path: Path) -> None:
    runner, process = started(make_terms(tmp_path))
    runner.stop()
    assert process.returncode == -9
    assert runner.poll() is None


def test_an_orphan_ends_with_its_supervisor(tmp_path: Path) -> None:
    """The end of its standard input is all that a trainer sees of a supervisor that was killed."""
    command = [sys.executable, "-m", "edge_agent.trainer_process"]
    job = msgspec.json.encode(jobs.MeasureJob(make_terms(tmp_path), 1, None)) + b"\n"
    ended = subprocess.run(command, input=job, capture_output=True, check=False, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")


def test_a_new_job_ends_the_one_before(tmp_path: Path) -> None:
    runner, process = started(make_terms(tmp_path))
    runner.start(jobs.MeasureJob(make_terms(tmp_path), 1, None))
    assert process.returncode == -9
    runner.stop()


def test_a_trainer_that_cannot_be_started_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "no python"))
    runner = jobs.Runner()
    runner.start(jobs.MeasureJob(make_terms(tmp_path), 1, None))
    line = runner.poll()
    assert isinstance(line, jobs.Failure) and "cannot be started" in line.reason


def test_what_a_library_prints_is_no_result_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "python"
    script.write_text(
        '#!/bin/sh\nread job\necho "hello from a library"\nprintf \'{"kind":"\\377"}\\n\'\n'
        'echo \'{"kind":"trained","round":3}\'\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    with caplog.at_level(logging.WARNING):
        assert run(jobs.MeasureJob(make_terms(tmp_path), 1, None)) == [jobs.TrainResult(3)]
    assert "printed 21 bytes that are no result" in caplog.text and "hello" not in caplog.text


def test_an_error_that_nobody_foresaw_tells_where_it_was_and_not_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import edge_agent.tokenise as one\n"
        "def encode(self, texts):\n    raise KeyError(texts[0])\n"
        "one.Tokeniser.encode = encode\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(jobs.__file__).parent.parent}")
    (result,) = run(jobs.MeasureJob(make_terms(tmp_path), 1, None))
    assert isinstance(result, jobs.Failure) and "ended with status 1 and no result" in result.reason
    said = capfd.readouterr().err
    assert "KeyError" in said and "sitecustomize.py:3 (encode)" in said and "word" not in said


def test_examples_come_from_an_entry_point_that_only_the_trainer_calls(tmp_path: Path) -> None:
    (tmp_path / "feed_of_a_test.py").write_text(
        "import os, sys\n"
        "def rows():\n"
        "    assert any('trainer_process' in word for word in sys.orig_argv)\n"
        "    print('not a result')\n"
        "    for i in range(30):\n        yield {'text': f'word{i}', 'label': 'belt'}\n"
    )
    terms = make_terms(tmp_path, data="python:feed_of_a_test:rows", data_path=str(tmp_path))
    (result,) = run(jobs.MeasureJob(terms, 1, CAPABILITY))
    assert isinstance(result, jobs.MeasureResult) and result.examples + result.holdout == 30


def test_of_data_that_are_wrong_the_coordinator_is_told_no_name(tmp_path: Path) -> None:
    terms = make_terms(tmp_path)
    Path(terms.data).write_text("{}\n")
    (result,) = run(jobs.MeasureJob(terms, 1, None))
    assert isinstance(result, jobs.Failure) and f"{terms.data}, line 1" in result.reason
    assert result.told is not None and result.told.startswith("a data file, line 1: ")


def test_a_trainer_that_ends_without_a_word_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    (result,) = run(jobs.MeasureJob(make_terms(tmp_path), 1, None))
    assert isinstance(result, jobs.Failure) and "ended with status 1 and no result" in result.reason


def test_the_trainers_libraries_use_the_threads_of_the_settings() -> None:
    environment = jobs.trainer_environment(3)
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "3"
