"""Exports the merged model: one float32 ONNX file that plain ONNX Runtime runs, without torch and without the pack."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from coordinator import config as configs
from coordinator.store import Store
from deploy import merged_graph
from deploy.folders import COORDINATOR_DB, is_run
from edge_agent.engine.protocol import Float32
from edge_agent.engine.weights import WeightMap
from edge_agent.wire import state as states
from edge_agent.wire.errors import ConfigError, PackError, StoreError
from edge_agent.wire.pack import MANIFEST, TOKENIZER, Manifest, file_sha256, load_manifest, module_layout, verify
from edge_agent.wire.ranks import HEAD, Rows
from edge_agent.wire.state import ModelState

_FLOAT32_BYTES = 4


class Exported(NamedTuple):
    """What an export wrote: which model, of which version, and how many bytes."""

    model: str
    version: int
    size_bytes: int


def export_run(run_dir: Path, out: Path, *, pack_dir: Path | None = None) -> Exported:
    """Exports the last checkpoint of the coordinator's run in `run_dir`, and the pack's tokenizer beside it.

    `pack_dir` says where the pack is now, if it was moved.

    Raises:
        ConfigError: `run_dir` is no run folder, or another tokenizer lies beside `out`.
        StoreError: no round was closed yet, or `out` cannot be written.
        PackError: the pack is missing, altered, or not that of the run; or it is too large for one file.
    """
    run = _read_run(run_dir, pack_dir)
    _keep_tokenizer(run.pack_dir / TOKENIZER, out.parent / TOKENIZER)
    training = run.config.training
    export_merged(
        run.pack_dir,
        run.state,
        classes=run.config.classes,
        scale=training.scale,
        out=out,
        max_tokens=training.max_tokens,
    )
    return Exported(load_manifest(run.pack_dir).model, run.state.version, out.stat().st_size)


def export_merged(
    pack_dir: Path,
    state: ModelState,
    *,
    classes: tuple[str, ...],
    scale: float,
    out: Path,
    max_tokens: int | None = None,
) -> None:
    """Writes the model of `state` to `out`, the adapters merged into the weights: `W0 + scale * B diag(E) A`.

    The file takes `input_ids` and `attention_mask` int64 (batch, tokens) and gives `logits` float32 (batch, classes).
    Its metadata hold `classes` (JSON), `max_tokens` (where texts are to be cut: the given one, at most the model's),
    `model`, `version` and `pad_token_id`. It appears under its name only when it is complete.

    Raises:
        PackError: the pack is incomplete or altered, is not that of `state`, or is too large for one file.
        StoreError: `out` cannot be written.
    """
    manifest = verify(pack_dir)
    if module_layout(manifest, state.layout.slots, len(classes)) != state.layout:
        raise PackError(
            f"the model state is not of {manifest.model} with {len(classes)} classes: name the pack of its run"
        )
    _check_size(manifest, state)
    model = merged_graph.compose(pack_dir, manifest, len(classes))
    used = {name for node in model.graph.node for name in node.input}
    for name, tensor in _tensors(WeightMap(pack_dir, manifest), manifest, state.rows, scale):
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(tensor, name))
    longest = min(max_tokens or manifest.max_tokens, manifest.max_tokens)
    helper.set_model_props(model, _metadata(manifest, state, classes, longest))
    onnx.checker.check_model(model, full_check=True)
    with _complete(out) as part:
        onnx.save(model, part)


class _Run(NamedTuple):
    config: configs.CoordinatorConfig
    pack_dir: Path
    state: ModelState


def _read_run(run_dir: Path, pack_dir: Path | None) -> _Run:
    if not is_run(run_dir):
        raise ConfigError(
            f"{run_dir} is no run folder: expected the coordinator's run_dir, with {COORDINATOR_DB} in it"
        )
    store = Store(run_dir / COORDINATOR_DB, read_only=True)
    try:
        stored, pack_sha256, checkpoint = store.get("config"), store.get("pack"), store.checkpoint()
    finally:
        store.close()
    if stored is None or pack_sha256 is None or checkpoint is None:
        raise StoreError(f"the run in {run_dir} has no model yet: it gets one when its first round is closed")
    config = configs.decode(stored)
    pack_dir = pack_dir or config.pack
    manifest = _run_pack(pack_dir, pack_sha256)
    layout = module_layout(manifest, config.ranks.initial, len(config.classes))
    return _Run(config, pack_dir, states.from_bytes(checkpoint.state, layout))


def _run_pack(pack_dir: Path, sha256: bytes) -> Manifest:
    """The manifest of the pack in `pack_dir`, if its hash is `sha256`: another pack's weights mean another model."""
    path = pack_dir / MANIFEST
    if not path.is_file():
        raise PackError(f"there is no model pack in {pack_dir}: name the folder of the run's pack with --pack")
    if file_sha256(path) != sha256.hex():
        raise PackError(f"{pack_dir} is not the pack that the run was made with: name that one with --pack")
    return load_manifest(pack_dir)


def _keep_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer, but never over another one: the folder may be a different model's."""
    if not target.exists():
        with _complete(target) as part:
            shutil.copyfile(source, part)
    elif file_sha256(source) != file_sha256(target):
        raise ConfigError(f"{target} is another model's tokenizer: export into a folder of its own")


def _check_size(manifest: Manifest, state: ModelState) -> None:
    scales = {entry.scale for entry in manifest.tensors.values()}
    values = sum(math.prod(entry.shape) for name, entry in manifest.tensors.items() if name not in scales)
    size_bytes, most_bytes = _FLOAT32_BYTES * (values + state.rows[HEAD].size), onnx.checker.MAXIMUM_PROTOBUF
    if size_bytes >= most_bytes:
        raise PackError(
            f"{manifest.model} has {size_bytes} bytes in float32, one ONNX file holds {most_bytes}: use a smaller model"
        )


def _tensors(weights: WeightMap, manifest: Manifest, rows: Rows, scale: float) -> Iterator[tuple[str, Float32]]:
    """Every weight of the merged model under the name that its graph uses."""
    scales = {entry.scale for entry in manifest.tensors.values()}
    modules = {f"block.{module.block}.{module.local}.weight": module for module in manifest.modules}
    for name in sorted(manifest.tensors.keys() - scales):
        tensor = weights.tensor(name)
        if name in modules:
            tensor += _change(rows[modules[name].name], modules[name].d_in, scale)
        yield name, tensor
    yield merged_graph.HEAD_WEIGHT, rows[HEAD][:, :-1]
    yield merged_graph.HEAD_BIAS, rows[HEAD][:, -1]


def _change(table: Float32, d_in: int, scale: float) -> Float32:
    """`scale * (B diag(E) A)^T`, `(d_in, d_out)`, of rows `[A_i | E_i | B_i]`."""
    A, E, B = table[:, :d_in], table[:, d_in], table[:, d_in + 1 :]
    change: Float32 = (A.T * (np.float32(scale) * E)) @ B
    return change


def _metadata(manifest: Manifest, state: ModelState, classes: tuple[str, ...], max_tokens: int) -> dict[str, str]:
    return {
        "classes": json.dumps(classes, ensure_ascii=False),
        "max_tokens": str(max_tokens),
        "model": manifest.model,
        "version": str(state.version),
        "pad_token_id": str(manifest.pad_token_id),
    }


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """A path to write to, whose file is moved to `path` once all of it is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            part = Path(folder) / path.name
            yield part
            part.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}): check free space and permissions") from error
