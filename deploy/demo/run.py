"""The demo from beginning to end; see `rankfleet demo --help`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import msgspec

from coordinator import config as coordinator_config
from coordinator import events
from coordinator.config import CoordinatorConfig
from coordinator.rows import ready_of
from coordinator.run import DATABASE
from coordinator.store import Store
from deploy import datasets
from deploy.demo import summary as summaries
from deploy.demo.baseline import Alone, Job, accuracy
from deploy.demo.layout import Device, Files, write_files
from deploy.demo.processes import Fleet
from deploy.demo.settings import Options
from deploy.export import export_run
from deploy.fetch.catalogue import CATALOGUE, find
from deploy.fetch.fetch import fetch
from deploy.folders import MERGED_MODEL
from deploy.predict import predict
from deploy.progress import Progress, megabytes
from edge_agent import capability, config
from edge_agent.data import read_examples
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import PackError, RankfleetError
from edge_agent.wire.pack import file_sha256, load_manifest, module_layout
from edge_agent.wire.ranks import Layout

Say = Callable[[str], None]
AT_ONCE = 2
EXAMPLE_TEXT = "hydraulic hose leaking"
EXAMPLE_WORDS = 12


@dataclass
class Seen:
    """What the demo keeps of the coordinator's events."""

    finished: dict[str, m.Finished] = field(default_factory=dict)


def run(options: Options, say: Say) -> summaries.Summary:
    """Runs the demo; its files are in `options.out`.

    Raises:
        RankfleetError: anything failed, any device included; every process has been ended.
    """
    if options.capabilities is not None:
        capability.load_all(options.capabilities)  # so that a wrong file is told now, not by five agents
    model_dir = _model(options, say)
    dataset = _dataset(options, say)
    pack = build_pack(model_dir, options.cache, say)
    start_s = time.monotonic()
    files = write_files(options, dataset, pack)
    say(f"{len(files.devices)} devices on {dataset.name}, files in {files.out}")
    seen = _train(files, say)
    result = _summarise(options, files, seen, start_s, say)
    path = summaries.write(files, result)
    say("")
    say(summaries.table(result))
    say("")
    say(summaries.traffic_table(result))
    say(f"all of it: {path}")
    _use(options, files, say)
    return result


def build_pack(model_dir: Path, cache: Path, say: Say) -> Path:
    """The pack of `model_dir` in the cache, built there if need be; in a process of its own, for torch is large."""
    if not (model_dir / "config.json").is_file():
        raise PackError(f"{model_dir} is no model folder: expected one with config.json, in Hugging Face layout")
    digest = file_sha256(model_dir / "config.json")[:8]
    pack = cache / "packs" / f"{model_dir.resolve().name}-{digest}-int8"
    say(f"model pack of {model_dir.name} (built once, about a minute): {pack}")
    command = [sys.executable, "-m", "deploy.cli.main", "pack", "build", str(model_dir), str(pack)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RankfleetError(f"the pack could not be built: {done.stderr.decode(errors='replace').strip()}")
    return pack


def _model(options: Options, say: Say) -> Path:
    if options.model in CATALOGUE:
        return fetch(find(options.model), options.cache, say)
    return Path(options.model)


def _dataset(options: Options, say: Say) -> datasets.Dataset:
    if options.data in datasets.PUBLISHED:
        fetch(find(options.data), options.cache, say)
    return datasets.load_dataset(options.data, options.cache)


def _train(files: Files, say: Say) -> Seen:
    """Runs the fleet to its end.

    Raises:
        RankfleetError: a process failed, or a device declined or was refused.
    """
    seen, progress = Seen(), Progress()
    with Fleet(files) as fleet:
        for event in fleet.events():
            line = progress.line(event)
            if line is not None:
                say(line)
            if isinstance(event, events.Finished):
                seen.finished[event.device] = event.finished
            elif isinstance(event, events.Refused):
                raise RankfleetError(f"device {event.device} failed: {event.reason}")
    return seen


@dataclass(frozen=True)
class Ended:
    """A fleet's run that came to its end: its settings, its last checkpoint, its devices' reports."""

    fleet: CoordinatorConfig
    layout: Layout
    state: bytes
    history: tuple[events.RoundRecord, ...]
    reports: dict[str, list[m.RoundReport]]
    capabilities: dict[str, m.Capability]


def _read_run(files: Files) -> Ended:
    fleet = coordinator_config.load(files.coordinator)
    layout = module_layout(load_manifest(fleet.pack), fleet.ranks.initial, len(fleet.classes))
    store = Store(files.out / DATABASE, read_only=True)
    try:
        checkpoint = store.checkpoint()
        if checkpoint is None:
            raise RankfleetError("the run ended without a single round; see coordinator.log in its folder")
        readies = {row.name: ready for row in store.devices() if (ready := ready_of(store, row)) is not None}
        return Ended(
            fleet=fleet,
            layout=layout,
            state=checkpoint.state,
            history=summaries.history(store),
            reports=summaries.reports_by_device(store, fleet.round.rounds),
            capabilities={name: ready.capability for name, ready in readies.items()},
        )
    finally:
        store.close()


def _accuracies(files: Files, ended: Ended) -> tuple[float, float, dict[str, float]]:
    """On the common test set: before, after, and of each device's model trained alone; `AT_ONCE` at a time."""
    fleet = ended.fleet
    job = Job(
        pack=str(fleet.pack),
        classes=fleet.classes,
        slots=fleet.ranks.initial,
        seed=fleet.seed,
        training=fleet.message_training(),
        test=str(files.test),
        threads=1,
    )
    alone = [_alone(device, ended.reports[device.name]) for device in files.devices]
    jobs = [job, msgspec.structs.replace(job, state=ended.state)]
    jobs += [msgspec.structs.replace(job, alone=one) for one in alone]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        before, after, *rest = pool.map(accuracy, jobs)
    return before, after, {one.device: value for one, value in zip(alone, rest, strict=True)}


def _alone(device: Device, reports: list[m.RoundReport]) -> Alone:
    steps = sum(report.steps for report in reports)
    return Alone(device.name, str(device.data), config.load(device.config).holdout_share, steps)


def _summarise(options: Options, files: Files, seen: Seen, start_s: float, say: Say) -> summaries.Summary:
    ended = _read_run(files)
    files.capabilities.write_bytes(capability.dump(ended.capabilities))
    say("comparing: every device alone, with as many steps as it did in the fleet")
    before, after, alone = _accuracies(files, ended)
    test = read_examples(files.test, ended.fleet.classes)
    state = states.from_bytes(ended.state, ended.layout)
    pruned = int((~state.mask.any(axis=1)).sum())
    return summaries.Summary(
        data=options.data,
        model=options.model,
        seed=ended.fleet.seed,
        rounds=len(ended.history),
        classes=len(ended.fleet.classes),
        test_examples=len(test),
        accuracy=summaries.Accuracy(before, after, summaries.majority_share(test), mean(alone.values())),
        ranks=summaries.Ranks(ended.layout.ranks, int(state.mask.sum())),
        modules=summaries.Modules(len(ended.layout.modules), pruned),
        wall_s=time.monotonic() - start_s,
        history=ended.history,
        devices=tuple(
            summaries.device_summary(
                device, ended.reports[device.name], seen.finished[device.name], alone[device.name], ended.layout
            )
            for device in files.devices
        ),
    )


def _use(options: Options, files: Files, say: Say) -> None:
    """Exports the merged model, and asks it and one agent the same question."""
    exported = export_run(files.out, files.out / MERGED_MODEL)
    say(f"merged model: {files.out / MERGED_MODEL} ({megabytes(exported.size_bytes)}, plain ONNX)")
    text = _question(options, files)
    say(f'rankfleet predict {options.out} "{text}"')
    for agent in (None, files.devices[0].name):
        predictions = predict(files.out, [text], agent=agent)
        best = predictions.answers[0][0]
        say(f"    {best.label} ({best.probability:.3f}), says {predictions.by}")


def _question(options: Options, files: Files) -> str:
    """A short text of the kind that the data holds."""
    if options.data == "excavators":
        return EXAMPLE_TEXT
    words = read_examples(files.test, None)[0].text.split()
    return " ".join(words[:EXAMPLE_WORDS])
