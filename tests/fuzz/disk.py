"""What bytes from the disk reach: packs, settings, data, capabilities, databases, half transfers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from coordinator import config as coordinator_config
from coordinator import fleet_model
from edge_agent import capability, jobs
from edge_agent import config as agent_config
from edge_agent.data import read_examples
from edge_agent.engine.weights import WeightMap
from edge_agent.prefix import PrefixCache
from edge_agent.store import Store
from edge_agent.tokenise import Tokeniser
from edge_agent.wire import messages as m
from edge_agent.wire import transfer
from edge_agent.wire.errors import MALFORMED
from edge_agent.wire.pack import (
    FILES,
    FORMAT,
    WEIGHTS,
    FileEntry,
    Manifest,
    ModuleEntry,
    TensorEntry,
    bytes_per_rank,
    module_layout,
    parse_manifest,
)
from tests.fuzz.network import CHUNK_BYTES, LAYOUT, OBJECT

Decode = Callable[[bytes], None]

_MODULES = (ModuleEntry("layer.0.query", "query", 0, 4, 6), ModuleEntry("layer.1.query", "query", 1, 4, 6))
MANIFEST = Manifest(
    format=FORMAT,
    model="tiny",
    architecture="bert",
    weights="fp32",
    d_model=4,
    heads=2,
    blocks=2,
    vocabulary=9,
    max_tokens=16,
    pad_token_id=0,
    pooling="mean",
    norm_eps=1e-12,
    causal=False,
    modules=_MODULES,
    block_weights=("query.weight",),
    tensors={"block.0.query.weight": TensorEntry("float32", (4, 6), 0, 96)},
    files=dict.fromkeys(sorted(FILES), FileEntry(hashlib.sha256(OBJECT).hexdigest(), len(OBJECT))),
    source_sha256="0" * 64,
    mapped_working_set_bytes=65_536,
    bytes_per_rank=bytes_per_rank(_MODULES),
)
_CHECKPOINT = fleet_model.to_checkpoint(fleet_model.start(LAYOUT, 4))
PREFIX_TOKENS = (1, 2, 3)


def manifest(data: bytes) -> None:
    """A pack's manifest, which came from the coordinator, and the layout that follows from it."""
    found = parse_manifest(data)
    layout = module_layout(found, LAYOUT.slots, LAYOUT.classes)
    assert len(layout.tables) == len(found.modules) + 1 and layout.blocks <= found.blocks
    assert parse_manifest(msgspec.json.encode(found)) == found


def weights(folder: Path) -> Decode:
    """Where tensors lie in a file of a pack: JSON of the manifest's `tensors`."""
    (folder / WEIGHTS).write_bytes(OBJECT)
    decoder = msgspec.json.Decoder(dict[str, TensorEntry])

    def run(data: bytes) -> None:
        try:
            tensors = decoder.decode(data)
        except MALFORMED:
            return
        WeightMap(folder, msgspec.structs.replace(MANIFEST, tensors=tensors))

    return run


def tokenizer(folder: Path) -> Decode:
    """A pack's tokenizer."""
    return _reading(folder / "tokenizer.json", lambda path: Tokeniser(path, 0, 16).encode(["a few words", ""]))


def agent_settings(folder: Path) -> Decode:
    """An agent's configuration."""
    return _reading(folder / "agent.toml", agent_config.load)


def coordinator_settings(folder: Path) -> Decode:
    """A coordinator's configuration, and the same as its database keeps it."""

    def run(path: Path) -> None:
        config = coordinator_config.load(path)
        assert coordinator_config.decode(coordinator_config.encode(config)).fleet == config.fleet

    return _reading(folder / "coordinator.toml", run)


def users(folder: Path) -> Decode:
    """Names and passwords of the embedded broker."""
    return _reading(folder / "users", coordinator_config.load_users)


def examples(folder: Path, name: str) -> Decode:
    """An agent's data, in a file called `name`."""
    return _reading(folder / name, lambda path: read_examples(path, None))


def capabilities(folder: Path) -> Decode:
    """Recorded capabilities."""

    def run(path: Path) -> None:
        found = capability.load_all(path)
        path.write_bytes(capability.dump(found))
        assert capability.load_all(path) == found

    return _reading(folder / "capabilities.json", run)


def scores(data: bytes) -> None:
    """The scores of a checkpoint; its other parts are snapshots."""
    fleet_model.from_checkpoint(_CHECKPOINT._replace(scores=data), LAYOUT)


def stored_config(data: bytes) -> None:
    """A coordinator's configuration as its database keeps it."""
    coordinator_config.decode(data)


def stored_value(folder: Path) -> Decode:
    """A value that the agent keeps in its database."""
    store = Store(folder / "values.db")

    def run(data: bytes) -> None:
        store.put(welcome=data)
        store.value("welcome", m.Welcome)

    return run


def database(folder: Path) -> Decode:
    """An agent's database."""
    path = folder / "agent.db"

    def run(_: Path) -> None:
        try:
            store = Store(path)
            try:
                store.model()
                store.outgoing()
                store.value("welcome", m.Welcome)
            finally:
                store.close()
        finally:
            for rest in folder.glob("agent.db-*"):
                rest.unlink()

    return _reading(path, run)


def trainer_line(data: bytes) -> None:
    """What a trainer process prints."""
    runner = jobs.Runner()
    runner._lines.put(data)
    runner.poll()


def prefix(folder: Path) -> Decode:
    """States of examples as an earlier round left them."""
    own = folder / "prefix"
    own.mkdir()

    def run(_: Path) -> None:
        cache = PrefixCache(own, "key", PREFIX_TOKENS, LAYOUT.d_model, 2**20)
        for place, tokens in enumerate(PREFIX_TOKENS):
            found = cache.read(place)
            assert found is None or found.shape == (tokens, LAYOUT.d_model)
        cache.close()

    return _reading(own / "key", run)


def bitmap(folder: Path) -> Decode:
    """Which blocks of an object an earlier process has received."""
    ref = m.ObjectRef("delta", hashlib.sha256(OBJECT).digest(), len(OBJECT))
    part = folder / "object.part"

    def run(_: Path) -> None:
        part.write_bytes(OBJECT)
        sink = transfer.FileSink(folder / "object")
        assert (len(sink.open(ref)) - 1) * CHUNK_BYTES < len(OBJECT)
        transfer.Receiver(ref, sink, CHUNK_BYTES, window=2)

    return _reading(folder / "object.bitmap", run)


def _reading(path: Path, read: Callable[[Path], object]) -> Decode:
    """`read` for a file at `path` that holds the data."""

    def run(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return run
