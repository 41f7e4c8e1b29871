"""Builds a model pack from a model folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
import onnx

from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import (
    BACKWARD,
    FORMAT,
    FORWARD,
    INT8_BACKWARD,
    INT8_FORWARD,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    FileEntry,
    Manifest,
    ModuleEntry,
    bytes_per_rank,
    file_sha256,
    verify,
)

from .architectures import take_apart
from .architectures.parts import Parts
from .graphs import backward_graph, forward_graph
from .source import Pooling, Source, read_source, source_sha256
from .tensors import WeightsType, largest_section_bytes, write_tensors


def build_pack(model_dir: Path, out_dir: Path, *, weights: WeightsType = "int8") -> Manifest:
    """Builds the pack of the model in `model_dir` as the folder `out_dir`.

    The folder appears under its name only when it is complete. A pack that is there already is kept if it is intact
    and was built from the same files, and replaced otherwise.

    Raises:
        PackError: a model that cannot be read or is not supported, or an `out_dir` that holds something else.
    """
    digest = source_sha256(model_dir, weights)
    kept = _intact(out_dir)
    if kept is not None and kept.source_sha256 == digest:
        return kept
    source = read_source(model_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out_dir.name}-", dir=out_dir.parent) as temporary:
        pack_dir = Path(temporary) / "pack"
        pack_dir.mkdir()
        (pack_dir / TOKENIZER).write_bytes(source.tokenizer)
        manifest = _write_pack(pack_dir, source, weights, digest)
        _replace(out_dir, pack_dir, Path(temporary) / "replaced")
    return manifest


def _intact(out_dir: Path) -> Manifest | None:
    """The pack that is there already, if it is whole."""
    if not out_dir.exists():
        return None
    if not (out_dir / MANIFEST).is_file() and any(out_dir.iterdir()):
        raise PackError(f"{out_dir} holds something else than a model pack: name an empty or a new folder")
    try:
        return verify(out_dir)
    except PackError:
        return None  # to be built again


def _write_pack(pack_dir: Path, source: Source, weights: WeightsType, digest: str) -> Manifest:
    """Everything but the tokenizer; the manifest last."""
    parts = take_apart(source.config, source.state)
    table = write_tensors(pack_dir / WEIGHTS, parts, weights)
    files = _write_graphs(pack_dir, parts, weights)
    modules = _modules(parts)
    manifest = Manifest(
        format=FORMAT,
        model=source.name,
        architecture=source.config.model_type,
        weights=weights,
        d_model=parts.d_model,
        heads=parts.heads,
        blocks=len(parts.blocks),
        vocabulary=parts.embeddings["word"].shape[0],
        max_tokens=parts.max_tokens,
        pad_token_id=parts.pad_token_id,
        pooling=source.pooling or _pooling(parts),
        norm_eps=parts.norm_eps,
        causal=parts.causal,
        modules=modules,
        block_weights=tuple(parts.blocks[0]),
        tensors=table,
        files={name: _file_entry(pack_dir / name) for name in (WEIGHTS, *files, TOKENIZER)},
        source_sha256=digest,
        mapped_working_set_bytes=largest_section_bytes(parts, table),
        bytes_per_rank=bytes_per_rank(modules),
    )
    write_manifest(pack_dir, manifest)
    return manifest


def write_manifest(pack_dir: Path, manifest: Manifest) -> None:
    """Writes the manifest of the pack in `pack_dir`; one that is there already is replaced whole, or not at all.

    Raises:
        PackError: it cannot be written.
    """
    part = pack_dir / f".{MANIFEST}.part"
    try:
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(pack_dir / MANIFEST)
    except OSError as error:
        raise PackError(
            f"{pack_dir / MANIFEST} cannot be written ({error.strerror}): free space or permit it"
        ) from error


def _pooling(parts: Parts) -> Pooling:
    """As transformers classifies: decoders by their last token, others by their pooler, if they have one."""
    if parts.causal:
        return "last"
    return "pooler" if parts.pooler else "mean"


def _write_graphs(pack_dir: Path, parts: Parts, weights: WeightsType) -> list[str]:
    """The graphs for all products that the weights' type allows; returns their names."""
    graphs = {FORWARD: forward_graph(parts), BACKWARD: backward_graph(parts)}
    if weights == "int8":
        graphs |= {INT8_FORWARD: forward_graph(parts, "int8"), INT8_BACKWARD: backward_graph(parts, "int8")}
    for name, graph in graphs.items():
        onnx.save(graph, pack_dir / name)
    return list(graphs)


def _modules(parts: Parts) -> tuple[ModuleEntry, ...]:
    return tuple(
        ModuleEntry(f"{parts.module_prefix}.{block}.{local}", local, block, d_in, d_out)
        for block in range(len(parts.blocks))
        for local, (d_in, d_out) in parts.modules.items()
    )


def _file_entry(path: Path) -> FileEntry:
    return FileEntry(file_sha256(path), path.stat().st_size)


def _replace(out_dir: Path, pack_dir: Path, replaced: Path) -> None:
    """Folders cannot be swapped in one step: what was there steps aside first, and goes with the temporary one."""
    if out_dir.exists():
        out_dir.rename(replaced)
    pack_dir.rename(out_dir)
