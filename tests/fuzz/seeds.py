"""Writes the corpora: `python -m tests.fuzz.seeds`. Small real inputs, most of them from the golden objects."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sqlite3
import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from coordinator import config as coordinator_config
from coordinator import fleet_model
from coordinator.enrolment.service import Submission
from coordinator.events import RoundRecord
from coordinator.store import Contribution, DeviceRow
from coordinator.store import Store as CoordinatorStore
from edge_agent import capability, jobs
from edge_agent.store import Model, Outgoing, Store
from edge_agent.wire import codec, frame
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.container import HEADER_BYTES, Kind, unseal
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD
from edge_agent.wire.rowset import quantise_rows, write
from edge_agent.wire.updates import Orders, ReleaseOrder, UpdateReport
from tests.coordinator.enrolment.fleets import BoardKey
from tests.fuzz.disk import MANIFEST, PREFIX_TOKENS
from tests.fuzz.network import BODY_LIMIT_BYTES, CHUNK_BYTES, LAYOUT, OBJECT, STATISTICS
from tests.fuzz.targets import CORPUS
from tests.fuzz.updates import RELEASE
from tests.wire.examples import BOTH_WAYS, CAPABILITY, FROM_AGENT, FROM_COORDINATOR, REPORT

GOLDEN = Path(__file__).parents[1] / "golden"
PAGE_BYTES = 512
RECORD = RoundRecord(1, 1, ("pi-1",), 40, 0.5, 0.75, 9, 2, 12, 7, 0.25, 400, 300, 1.5)

AGENT = b"""device = "pi-1"
fleet = "depot"
data = "data.jsonl"
state_dir = "state"
holdout_share = 0.2

[broker]
host = "gateway"
port = 8883
protocol = "5"
password_file = "secret"

[memory]
budget_bytes = 200_000_000
"""
COORDINATOR = b"""fleet = "depot"
pack = "pack"
classes = ["belt", "engine"]
run_dir = "run"
users_file = "users"

[broker]
port = 1883

[round]
rounds = 8
expected = 3
quorum = 2
deadline_s = 60.5

[ranks]
initial = 4
target = "auto"
"""


def seeds() -> dict[str, list[bytes]]:
    """Inputs by target."""
    found = {**_network(), **_disk(), **_stored(), **_updates()}
    return {**found, "closing": found["update-body"], "head-start": found["statistics-body"]}


def main() -> None:
    """Replaces the corpora."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    for name, inputs in seeds().items():
        (CORPUS / name).mkdir(parents=True)
        for number, data in enumerate(inputs):
            (CORPUS / name / f"{number:02}").write_bytes(data)


def _network() -> dict[str, list[bytes]]:
    frames = json.loads((GOLDEN / "frames.json").read_text(encoding="utf-8"))
    names = {message: type(message).__name__ for message in (*FROM_AGENT, *FROM_COORDINATOR, *BOTH_WAYS)}
    from_agent = [bytes.fromhex(frames[names[message]]) for message in (*FROM_AGENT, *BOTH_WAYS)]
    from_coordinator = [bytes.fromhex(frames[names[message]]) for message in (*FROM_COORDINATOR, *BOTH_WAYS)]
    offer = m.Offer(1, m.ObjectRef("update", bytes(32), 400), REPORT)
    served = (
        m.Want(bytes(32), CHUNK_BYTES, (0, 3)),
        m.Chunk(bytes(32), 3 * CHUNK_BYTES, bytes(len(OBJECT) % CHUNK_BYTES)),
    )
    accepted = [msgspec.msgpack.encode(message) for message in (offer, *served)]
    updates = [(GOLDEN / f"update-{name}.bin").read_bytes() for name in SCHEMES]
    deltas = [(GOLDEN / f"delta-{name}.bin").read_bytes() for name in SCHEMES]
    snapshot = states.to_bytes(states.seed_state(LAYOUT, 4))
    changes = [codec.decode_delta(delta, LAYOUT).changes for delta in deltas]
    return {
        "frame-from-agent": from_agent,
        "frame-from-coordinator": from_coordinator,
        "message-from-agent": [data[frame.HEADER_BYTES :] for data in from_agent] + accepted,
        "message-from-coordinator": [data[frame.HEADER_BYTES :] for data in from_coordinator],
        "roster": [struct.pack(">IQIQIQ", 1, 1, 1, 3, 2, 1), struct.pack(">IQ", 1, 0)],
        "update": updates,
        "update-body": [unseal(Kind.UPDATE, data, BODY_LIMIT_BYTES) for data in updates],
        "statistics-body": [unseal(Kind.UPDATE, _statistics(name), BODY_LIMIT_BYTES) for name in SCHEMES],
        "delta": deltas,
        "delta-body": [unseal(Kind.DELTA, data, BODY_LIMIT_BYTES) for data in deltas],
        "snapshot": [snapshot],
        "snapshot-body": [unseal(Kind.SNAPSHOT, snapshot, BODY_LIMIT_BYTES)],
        "stream": [updates[0][HEADER_BYTES:], zlib.compress(bytes(50_000))],
        "row-set": [write(change) for change in changes],
        "mask": [b"\xfc", b"\x00"],
        "chunks": [_chunks(0, 1, 2, 3), _chunks(3, 1, 1, 0, 2)],
        "bitmap": [_bitmap(1, 0, 1, 0), _bitmap(1, 1, 1, 1)],
    }


def _disk() -> dict[str, list[bytes]]:
    lines = b'{"text": "pump leaks", "label": "a"}\n\n{"label": "b", "text": "z\xc3\xa4hne", "client": "A", "n": [1]}\n'
    table = '\ufefflabel,text,client\r\nbucket,"won\'t open, or\nclose",B\r\n\r\nhydraulic,leak,\r\n'.encode()
    return {
        "manifest": [msgspec.json.encode(MANIFEST)],
        "weights": [msgspec.json.encode(MANIFEST.tensors)],
        "tokenizer": [_tokenizer()],
        "agent-settings": [AGENT],
        "coordinator-settings": [COORDINATOR],
        "users": [b"# the broker's\ncoordinator:secret\n\npi-1:other\n"],
        "data-jsonl": [lines],
        "data-csv": [table, b"text,label\na,b\n"],
        "data-gzip": [gzip.compress(lines, mtime=0)],
        "capabilities": [capability.dump({"pi-1": CAPABILITY})],
    }


def _stored() -> dict[str, list[bytes]]:
    welcome = next(message for message in FROM_COORDINATOR if isinstance(message, m.Welcome))
    config = coordinator_config.CoordinatorConfig("depot", Path("/p"), ("a", "b"), Path("/r"), Path("/u"))
    said = (jobs.Step("train", 1, 2, 0.5), jobs.MeasureResult(3, 1, 9, CAPABILITY), jobs.Failure("why", 1))
    return {
        "scores": [fleet_model.to_checkpoint(fleet_model.start(LAYOUT, 4)).scores],
        "stored-config": [coordinator_config.encode(config)],
        "stored-value": [msgspec.msgpack.encode(welcome)],
        "stored-ready": [msgspec.msgpack.encode(message) for message in FROM_AGENT if isinstance(message, m.Ready)],
        "stored-plan": [msgspec.msgpack.encode(message) for message in FROM_COORDINATOR if isinstance(message, m.Plan)],
        "stored-report": [msgspec.msgpack.encode(REPORT)],
        "stored-record": [msgspec.json.encode(RECORD)],
        "outbox": [msgspec.msgpack.encode(REPORT)],
        "enrolment": [msgspec.json.encode(Submission("token", "pi-1", BoardKey.make().request_pem.decode()))],
        "trainer-line": [msgspec.json.encode(line) + b"\n" for line in said],
        "prefix": [_prefix()],
        "database": [_database(welcome)],
        "coordinator-database": [_coordinator_database()],
    }


def _updates() -> dict[str, list[bytes]]:
    bundle = RELEASE.bundles[0]
    order = ReleaseOrder(bundle.name, bundle.sha256, bundle.size_bytes, RELEASE.version, RELEASE.kind, 1)
    report = UpdateReport("1.1", "aarch64", "3.11", bundle.name, 1, "installed")
    reports = [
        msgspec.json.encode(one)
        for one in (report, msgspec.structs.replace(report, outcome="failed", reason="no room"))
    ]
    return {
        "orders": [msgspec.json.encode(Orders(release=order)), msgspec.json.encode(Orders(renew=True))],
        "release-report": reports,
        "question": [b"version=1.0&machine=aarch64&python=3.11"],
        "spooled-order": [msgspec.json.encode(order)],
        "spooled-report": reports,
    }


def _statistics(scheme: str) -> bytes:
    rows = np.random.default_rng(1).normal(0, 0.1, (STATISTICS.classes, STATISTICS.d_model + 1)).astype(np.float32)
    rows[: LAYOUT.classes, -1] = 1 / LAYOUT.classes
    mask = STATISTICS.full_mask()
    changes, _ = quantise_rows(STATISTICS, {HEAD: rows}, STATISTICS.empty_rows(), mask, SCHEMES[scheme])
    update = codec.Update(1, 0, 40, mask, np.zeros(mask.shape, np.float32), changes)
    return codec.encode_update(update, STATISTICS)


def _chunks(*indices: int) -> bytes:
    sizes = {index: min(CHUNK_BYTES, len(OBJECT) - index * CHUNK_BYTES) for index in indices}
    return b"".join(struct.pack("<HHH", index * CHUNK_BYTES, sizes[index], index * CHUNK_BYTES) for index in indices)


def _bitmap(*marks: int) -> bytes:
    digest = hashlib.sha256(OBJECT).digest()
    return struct.pack(">32sQQ", digest, len(OBJECT), CHUNK_BYTES) + bytes(marks)


def _tokenizer() -> bytes:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "few": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def _prefix() -> bytes:
    bodies = [np.full((tokens, LAYOUT.d_model), tokens, "<f4").tobytes() for tokens in PREFIX_TOKENS]
    return b"".join(zlib.crc32(body, 1).to_bytes(4, "little") + body for body in bodies)


def _database(welcome: m.Welcome) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(_small(Path(folder) / "agent.db"))
        store.keep(welcome=welcome, boot=3)
        state = states.to_bytes(states.seed_state(LAYOUT, 4))
        report = msgspec.msgpack.encode(REPORT)
        store.keep_round(Model(1, state, state), Outgoing(2, hashlib.sha256(OBJECT[:99]).digest(), OBJECT[:99], report))
        store.close()
        return store.path.read_bytes()


def _coordinator_database() -> bytes:
    """After a round, with the next one open and one update in."""
    update = (GOLDEN / "update-int8.bin").read_bytes()
    start = fleet_model.start(LAYOUT, 4)
    checkpoint = fleet_model.to_checkpoint(replace(start, state=replace(start.state, version=1)))
    plan = next(message for message in FROM_COORDINATOR if isinstance(message, m.Plan))
    ready = next(message for message in FROM_AGENT if isinstance(message, m.Ready))
    with tempfile.TemporaryDirectory() as folder:
        store = CoordinatorStore(_small(Path(folder) / "coordinator.db"))
        store.keep(boot=3)
        store.put(run=bytes(range(16)))
        store.close_round(1, checkpoint, (GOLDEN / "delta-int8.bin").read_bytes(), msgspec.json.encode(RECORD))
        store.keep_device(DeviceRow("pi-1", 1, 5, True, msgspec.msgpack.encode(ready), "a note"))
        store.keep_plan(2, "pi-1", msgspec.msgpack.encode(plan))
        report = msgspec.msgpack.encode(REPORT)
        store.keep_contribution(2, Contribution("pi-1", hashlib.sha256(update).digest(), report, update, 2))
        store.close()
        return store.path.read_bytes()


def _small(path: Path) -> Path:
    """A database of small pages, so that inputs are short."""
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("VACUUM")
    return path


if __name__ == "__main__":
    main()
