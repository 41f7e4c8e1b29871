"""Model packs: what a board needs of a pretrained model, in one folder.

::

    manifest.json    this module's `Manifest`; names every other file with its sha256
    weights.bin      all tensors, each at a multiple of 64 bytes, to be memory-mapped
    forward.onnx     one block: x, mask, its effective weights -> y, and what its linear layers put out
    backward.onnx    the same block: those, its ranks and dy -> dx and the gradient of every rank
    forward_int8.onnx, backward_int8.onnx
                     likewise with products of 8-bit integers, where the weights are stored so
    tokenizer.json   for the `tokenizers` library

The resident supervisor reads manifests and verifies files, so this module keeps numpy out; the tensors themselves
are read by `edge_agent.engine.weights`.

Pack formats, newest first:
    2  2026-11-23  graphs take effective weights; backward.onnx in place of vjp.onnx; causal; context, final norm.
    1  2026-11-22  first.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from edge_agent.wire.errors import PackError
from edge_agent.wire.malformed import MALFORMED
from edge_agent.wire.pack_tensors import check_tensors

if TYPE_CHECKING:
    from edge_agent.wire.ranks import Layout

FORMAT = 2
MANIFEST = "manifest.json"
WEIGHTS = "weights.bin"
FORWARD = "forward.onnx"
BACKWARD = "backward.onnx"
TOKENIZER = "tokenizer.json"
INT8_FORWARD = "forward_int8.onnx"
INT8_BACKWARD = "backward_int8.onnx"
FILES = frozenset({WEIGHTS, FORWARD, BACKWARD, TOKENIZER})
"""What a manifest lists; together with the manifest itself, the whole pack."""
INT8_FILES = FILES | {INT8_FORWARD, INT8_BACKWARD}
"""The same for a pack with int8 weights."""
ALIGNMENT_BYTES = 64
SECTION_BYTES = 65_536
"""Sections of `weights.bin` start at multiples of this: the largest page of a board, and as much as the kernel maps
around a page that is touched, so one section never brings in another."""

_HEAD = "head"  # `ranks.HEAD`, the name of a table that is no module's; ranks imports numpy
_TRAINING_ARRAYS = 4  # value, gradient, AdamW's two moments
_FLOAT32_BYTES = 4
_CHUNK_BYTES = 2**20

Products = Literal["float32", "int8"]
"""How frozen matrices are multiplied: exactly, or as 8-bit integers, for which a pack needs int8 weights."""
Size = Annotated[int, Meta(ge=0, le=2**40)]
Positive = Annotated[int, Meta(ge=1, le=2**31)]
Share = Annotated[float, Meta(ge=0, le=1)]
Cosine = Annotated[float, Meta(ge=-1, le=1)]
Hex256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
# Files are written under the name that the manifest gives, which came over the network: never a path.
FileName = Annotated[str, Meta(pattern="^[a-z0-9_]+\\.[a-z0-9]+$", max_length=64)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the manifest."""


class FileEntry(Entry, frozen=True):
    """A file of the pack."""

    sha256: Hex256
    size_bytes: Size


class TensorEntry(Entry, frozen=True):
    """Where a tensor lies in `weights.bin`, row-major and little-endian.

    `scale` names the float32 tensor that an int8 tensor is multiplied with: `(rows, 1)` for `embedding` and `output`,
    `(d_out,)` for other matrices; null for other types.
    """

    dtype: Literal["int8", "float16", "float32"]
    shape: tuple[Positive, ...]
    offset: Size
    size_bytes: Size
    scale: str | None = None


class ModuleEntry(Entry, frozen=True):
    """One linear layer that can be adapted; `local` is its name inside of its block and in the graphs."""

    name: str
    local: str
    block: Annotated[int, Meta(ge=0, le=4096)]
    d_in: Positive
    d_out: Positive


class CosineEntry(Entry, frozen=True):
    """How alike gradients are: cosines of all ranks' gradients together, over several batches."""

    median: Cosine
    worst: Cosine


class AccuracyEntry(Entry, frozen=True):
    """What the weights' type and the products cost on one data set, against float32 weights and products.

    Both are trained alike for every seed: the same seed state, batches and settings. Gradients are compared on the same
    batches and ranks, with the seed state (where only `E` has a gradient) and with what float32 has trained.
    """

    dataset: str
    products: Products
    steps: Positive
    batch_size: Positive
    micro_batch: Positive
    """Examples that pass a block together: products of integers round them with one scale."""
    max_tokens: Positive
    test_examples: Positive
    at_start: CosineEntry
    after_training: CosineEntry
    accuracies: tuple[Share, ...]
    """Share of the test examples that were told right after training, one for each seed from 0 on."""
    reference_accuracies: tuple[Share, ...]
    """The same of float32."""


class Manifest(Entry, frozen=True):
    """All there is to know of a pack without opening its tensors.

    Tensor names: `block.<index>.<local>` for the frozen weights of a block (matrices as `(d_in, d_out)`),
    `embedding.word`, `embedding.position`, `embedding.norm.weight`, `embedding.norm.bias`,
    `pooler.weight` `(d_model, d_model)` and `pooler.bias`; what depends on positions and is common to all blocks:
    `context.relative` `(2 * max_tokens - 1, heads)`, the bias of the score of a key by its place after its query, the
    farthest before it first, `context.cos` and `context.sin` `(max_tokens, head's size)`, the first half of the latter
    negated; `final.norm.weight` behind the last block, and `final.norm.bias` unless it is a root mean square norm;
    `output.word` `(vocabulary, d_model)`, which gives the logits of the next token where `embedding.word` does not.
    A model without one of these leaves it out.
    """

    format: int
    model: str
    architecture: str
    weights: Literal["int8", "fp16", "fp32"]
    d_model: Positive
    heads: Positive
    blocks: Positive
    vocabulary: Positive
    max_tokens: Positive
    """Longest sequence, special tokens included."""
    pad_token_id: Annotated[int, Meta(ge=0, le=2**31)]
    pooling: Literal["mean", "cls", "pooler", "last"]
    """Which of a text's states its class is told from: their mean, the first, the first through the model's own
    pooler, or the last."""
    norm_eps: float
    """Added to the variance in the norms outside of the blocks."""
    causal: bool
    """Whether a token sees those before it only."""
    modules: tuple[ModuleEntry, ...]
    block_weights: tuple[str, ...]
    """Local names of a block's frozen tensors: inputs of both graphs, the same for every block."""
    tensors: dict[str, TensorEntry]
    files: dict[FileName, FileEntry]
    source_sha256: Hex256
    """Of the files and settings that the pack was built from; tells whether it must be built again."""
    mapped_working_set_bytes: Size
    """Bytes of `weights.bin` that one pass needs resident together.

    A pass goes through the map section by section (embeddings, each block in turn, what follows) and gives the pages of
    a section back before it touches the next, so this is the size of the largest section. Embeddings do not count:
    their rows are read from the file.
    """
    bytes_per_rank: Size
    """Bytes that one rank on every module costs in training: value, gradient, AdamW's two moments, in float32."""
    accuracy: tuple[AccuracyEntry, ...] = ()
    """What was measured of this pack; none before it is."""


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in the JSON text `data`.

    Raises:
        PackError: not JSON, of another format, with missing, unknown or impossible fields, or with tensors that do not
            fit each other.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).format
        if version != FORMAT:
            raise PackError(f"this version reads packs of format {FORMAT}, got format {version}: build the pack again")
        manifest = msgspec.json.decode(data, type=Manifest)
    except MALFORMED as error:
        raise PackError(f"{MANIFEST} is not a pack's manifest: {error}; build or fetch the pack again") from error
    expected = INT8_FILES if manifest.weights == "int8" else FILES
    if manifest.files.keys() != expected:
        raise PackError(f"a pack has the files {sorted(expected)}, the {MANIFEST} lists {sorted(manifest.files)}")
    _check_modules(manifest)
    check_tensors(manifest)
    return manifest


def load_manifest(pack_dir: Path) -> Manifest:
    """The manifest of the pack in `pack_dir`; the other files are not looked at.

    Raises:
        PackError: as `parse_manifest`, or if there is no manifest to read.
    """
    path = pack_dir / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PackError(f"no model pack in {pack_dir}: cannot read {path} ({error.strerror})") from error
    return parse_manifest(data)


def verify(pack_dir: Path) -> Manifest:
    """The manifest, after every file was compared with its size and sha256.

    Raises:
        PackError: names the first file that is missing or differs.
    """
    manifest = load_manifest(pack_dir)
    for name, entry in manifest.files.items():
        _verify_file(pack_dir / name, entry)
    return manifest


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def bytes_per_rank(modules: tuple[ModuleEntry, ...]) -> int:
    """See `Manifest.bytes_per_rank`."""
    width = sum(module.d_in + 1 + module.d_out for module in modules)
    return _TRAINING_ARRAYS * _FLOAT32_BYTES * width


def module_layout(manifest: Manifest, slots: int, classes: int) -> Layout:
    """The tables of a fleet that trains this pack with `slots` ranks a module and `classes` classes."""
    # ranks imports numpy, which the supervisor must not.
    from edge_agent.wire.ranks import Layout, Module  # noqa: PLC0415

    modules = tuple(Module(m.name, m.block, m.d_in, m.d_out) for m in manifest.modules)
    return Layout(modules, slots, classes, manifest.d_model)


def _check_modules(manifest: Manifest) -> None:
    names = [module.name for module in manifest.modules]
    if not names or len({*names, _HEAD}) <= len(names):
        raise PackError(
            f"a pack has at least one module, each with a name of its own that is not {_HEAD!r}; the {MANIFEST} lists "
            f"{names}"
        )
    if any(module.block >= manifest.blocks for module in manifest.modules):
        raise PackError(f"the {MANIFEST} lists a module beyond the last of {manifest.blocks} blocks: build it again")


class _Version(msgspec.Struct):
    format: int


def _verify_file(path: Path, entry: FileEntry) -> None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != entry.size_bytes:
            raise PackError(f"{path} should have {entry.size_bytes} bytes, has {size_bytes}: fetch the pack again")
        sha256 = file_sha256(path)
    except OSError as error:
        raise PackError(f"{path} of the pack cannot be read ({error.strerror}): fetch the pack again") from error
    if sha256 != entry.sha256:
        raise PackError(f"{path} should have sha256 {entry.sha256}, has {sha256}: get the pack again")
