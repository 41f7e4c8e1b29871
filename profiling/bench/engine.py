"""`rankfleet profile engine`: this project's engine, torch and PEFT side by side. See `docs/benchmarks.md`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec

from edge_agent.wire.pack import Manifest, load_manifest
from profiling.cgroup import Usage
from profiling.installed import agent_requirements, installed_bytes

from . import final_ranks
from .arithmetic import products_flops, step_flops
from .measure import Measured, Say, measure
from .models import build_packs, model_folder
from .modes import AnyMode, OnnxMode, PeftMode, TorchMode, WeightsType, parse
from .spec import AnySpec, Library, OnnxSpec, PeftSpec, ProductsSpec, TorchSpec, Work
from .statistics import median, spread

_ANY: tuple[WeightsType, ...] = ("int8",)
"""A pack is built even where no mode trains from one: it knows the model's linear layers."""


@dataclass(frozen=True)
class Options:
    """What to measure. The final ranks are those of `run`, or else `final_share` of all."""

    model: str
    modes: tuple[str, ...]
    work: Work
    repeats: int
    final_share: float
    run: Path | None
    cgroup_bytes: int | None
    cache: Path


class Row(msgspec.Struct, frozen=True):
    """One engine in one mode. `step_s_spread` is the interquartile range of its steps."""

    model: str
    engine: str
    mode: str
    peak_rss_bytes: int
    peak_anonymous_bytes: int
    step_s_median: float
    step_s_spread: float
    start_s: float
    sgemm_share: float
    installed_bytes: int


class Result(NamedTuple):
    """The rows, in the order of the modes; what cgroups tell, by mode; and the machine's best rate in flop/s."""

    rows: list[Row]
    usages: dict[str, Usage]
    best_flops_per_s: float


class Subject(NamedTuple):
    """The model, and its packs by the type of their weights."""

    folder: Path
    packs: Mapping[WeightsType, Path]
    manifest: Manifest


def bench_engine(options: Options, say: Say) -> Result:
    """Measures every mode of `options`.

    Raises:
        ConfigError: an unknown mode or model, or a run of another model.
        RankfleetError: a model or pack that cannot be made, a worker that ended, a missing package.
    """
    modes = [parse(name) for name in options.modes]
    with tempfile.TemporaryDirectory(prefix="rankfleet-bench-") as work:
        subject = _subject(options, modes, Path(work), say)
        ranks = _final(options, subject.manifest)
        specs = [_spec(mode, subject, options.work, ranks) for mode in modes]
        products = _products(subject.manifest, options.work)
        measured = measure([*specs, *products], options.repeats, say, options.cgroup_bytes)
    best = max(_rate(one) for one in measured[len(specs) :])
    return _result(subject, measured[: len(specs)], best)


def _subject(options: Options, modes: Sequence[AnyMode], work: Path, say: Say) -> Subject:
    folder = model_folder(options.model, options.cache, say)
    types = list(dict.fromkeys(mode.weights for mode in modes if isinstance(mode, OnnxMode)))
    packs = build_packs(folder, types or _ANY, work, say)
    return Subject(folder, packs, load_manifest(next(iter(packs.values()))))


def _final(options: Options, manifest: Manifest) -> final_ranks.Ranks:
    if options.run is not None:
        return final_ranks.of_run(options.run, manifest, options.work.rank)
    return final_ranks.share_of(manifest, options.work.rank, options.final_share)


def _spec(mode: AnyMode, subject: Subject, work: Work, final: final_ranks.Ranks) -> AnySpec:
    modules = tuple(module.name for module in subject.manifest.modules)
    match mode:
        case OnnxMode(name, weights, products, micro_batch, kept, is_final):
            ranks = final if is_final else final_ranks.full(subject.manifest, work.rank)
            kept_blocks = subject.manifest.blocks if kept is None else kept
            return OnnxSpec(name, work, str(subject.packs[weights]), products, micro_batch, kept_blocks, ranks)
        case TorchMode(name, checkpointing):
            return TorchSpec(
                name, work, str(subject.folder), modules, _blocks(subject.manifest) if checkpointing else ()
            )
        case PeftMode(name):
            return PeftSpec(name, work, str(subject.folder), modules, name)


def _blocks(manifest: Manifest) -> tuple[str, ...]:
    """The names of the model's blocks."""
    return tuple(dict.fromkeys(module.name.removesuffix(f".{module.local}") for module in manifest.modules))


def _products(manifest: Manifest, work: Work) -> list[ProductsSpec]:
    shapes = tuple((module.d_in, module.d_out) for module in manifest.modules if module.block == 0)
    return [ProductsSpec(f"products by {library}", work, library, shapes) for library in get_args(Library)]


def _rate(measured: Measured) -> float:
    """The best of the repetitions."""
    assert isinstance(measured.spec, ProductsSpec)
    return products_flops(measured.spec.shapes, measured.spec.work) / min(measured.steps_s)


def _result(subject: Subject, measured: Sequence[Measured], best_flops_per_s: float) -> Result:
    installed = cache(_installed_bytes)
    rows = [_row(subject.manifest, one, best_flops_per_s, installed) for one in measured]
    usages = {one.spec.mode: one.usage for one in measured if one.usage is not None}
    return Result(rows, usages, best_flops_per_s)


def _row(manifest: Manifest, measured: Measured, best_flops_per_s: float, installed: Callable[[str], int]) -> Row:
    spec, step_s = measured.spec, median(measured.steps_s)
    ranks = spec.ranks if isinstance(spec, OnnxSpec) else final_ranks.full(manifest, spec.work.rank)
    engine = str(spec.__struct_config__.tag)
    return Row(
        model=manifest.model,
        engine=engine,
        mode=spec.mode,
        peak_rss_bytes=measured.peak_rss_bytes,
        peak_anonymous_bytes=measured.peak_anonymous_bytes,
        step_s_median=step_s,
        step_s_spread=spread(measured.steps_s),
        start_s=measured.start_s,
        sgemm_share=step_flops(manifest, spec.work, ranks) / step_s / best_flops_per_s,
        installed_bytes=installed(engine),
    )


def _installed_bytes(engine: str) -> int:
    """Of the distributions that the engine needs, here."""
    torch = ["torch", "transformers"]
    return installed_bytes({"onnx": agent_requirements(), "torch": torch, "peft": [*torch, "peft"]}[engine])
