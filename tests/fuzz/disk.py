"""What bytes from the disk reach: packs, settings, data, capabilities, databases, half transfers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from coordinator import config as coordinator_config
from coordinator import fleet_model, rows
from coordinator.recovery import mend
from coordinator.store import DeviceRow
from coordinator.store import Store as CoordinatorStore
from edge_agent import capability, jobs
from edge_agent import config as agent_config
from edge_agent.data import read_examples
from edge_agent.engine.context import positional
from edge_agent.engine.embedding import embed
from edge_agent.engine.objective import Objective
from edge_agent.engine.weights import WeightMap
from edge_agent.prefix import PrefixCache
from edge_agent.startup import initial
from edge_agent.store import Outgoing, Store
from edge_agent.tokenise import Tokeniser
from edge_agent.wire import cost, transfer
from edge_agent.wire import messages as m
from edge_agent.wire.errors import StoreError
from edge_agent.wire.malformed import MALFORMED
from edge_agent.wire.pack import WEIGHTS, TensorEntry, module_layout, parse_manifest
from edge_agent.wire.pack_tensors import check_tensors
from tests.fuzz.network import CHUNK_BYTES, LAYOUT, OBJECT
from tests.manifests import WEIGHTS_BYTES, make_manifest

Decode = Callable[[bytes], None]
D = TypeVar("D", Store, CoordinatorStore)

MANIFEST = make_manifest()
_CHECKPOINT = fleet_model.to_checkpoint(fleet_model.start(LAYOUT, 4))
PREFIX_TOKENS = (1, 2, 3)


def manifest(data: bytes) -> None:
    """A pack's manifest, which came from the coordinator, and the layout that follows from it."""
    found = parse_manifest(data)
    layout = module_layout(found, LAYOUT.slots, LAYOUT.classes)
    assert cost.model_of(found).blocks == found.blocks
    assert len(layout.tables) == len(found.modules) + 1 and layout.blocks <= found.blocks
    assert parse_manifest(msgspec.json.encode(found)) == found


def weights(folder: Path) -> Decode:
    """Where tensors lie in a file of a pack, and what they hold: JSON of the manifest's `tensors`."""
    (folder / WEIGHTS).write_bytes(bytes(WEIGHTS_BYTES))
    decoder = msgspec.json.Decoder(dict[str, TensorEntry])

    def run(data: bytes) -> None:
        try:
            tensors = decoder.decode(data)
        except MALFORMED:
            return
        manifest = msgspec.structs.replace(MANIFEST, tensors=tensors)
        check_tensors(manifest)
        weights = WeightMap(folder, manifest)
        for name in manifest.tensors:
            assert weights.tensor(name).shape == manifest.tensors[name].shape
        embed(weights, manifest, np.zeros((1, manifest.max_tokens), np.int32), 1)
        positional(weights, manifest, manifest.max_tokens)
        Objective(manifest, weights)

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


def stored_row(folder: Path, read: Callable[[CoordinatorStore, bytes], object]) -> Decode:
    """A row of a coordinator's database, as `read` decodes it."""
    store = CoordinatorStore(folder / "rows.db")
    return lambda data: read(store, data) and None


def stored_ready(store: CoordinatorStore, data: bytes) -> object:
    """What a device can do."""
    return rows.ready_of(store, DeviceRow("pi-1", 1, 1, True, data, ""))


def stored_plan(store: CoordinatorStore, data: bytes) -> object:
    """The plan of a device."""
    return rows.plan_of(store, 1, "pi-1", data)


def stored_report(store: CoordinatorStore, data: bytes) -> object:
    """The report on a stored update."""
    return rows.report_of(store, 1, "pi-1", data)


def stored_record(store: CoordinatorStore, data: bytes) -> object:
    """The record of a closed round."""
    return rows.record_of(store, 1, data)


def outbox(folder: Path) -> Decode:
    """The report on an update that an agent has not sent yet."""
    store = Store(folder / "agent.db")
    digest = hashlib.sha256(OBJECT).digest()

    def run(data: bytes) -> None:
        store.report_of(Outgoing(1, digest, OBJECT, data))

    return run


def database(folder: Path) -> Decode:
    """An agent's database, as the agent takes it up when it starts."""
    return _database(folder / "agent.db", Store, initial)


def coordinator_database(folder: Path) -> Decode:
    """A coordinator's database, as it is mended and taken up when it starts."""

    def read(store: CoordinatorStore) -> None:
        mend(store, LAYOUT, 4)
        list(rows.records_of(store))
        for row in store.devices():
            with contextlib.suppress(StoreError):
                rows.ready_of(store, row)

    return _database(folder / "coordinator.db", CoordinatorStore, read)


def _database(path: Path, kind: Callable[[Path], D], read: Callable[[D], object]) -> Decode:
    def run(_: Path) -> None:
        try:
            store = kind(path)
            try:
                read(store)
            finally:
                store.close()
        finally:
            for rest in path.parent.glob(f"{path.name}-*"):
                rest.unlink(missing_ok=True)  # a connection that was refused may go just now

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
