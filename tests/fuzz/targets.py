"""Every decoder that bytes from the network or from disk reach, by name.

A target takes any bytes. It passes over the errors that the decoder documents, and lets everything else escape: another
error, a failed assertion about what was accepted, a crash. Where a checksum or a compression would stop all but a few
inputs, a target of its own makes them right around what it is given (`*-body`, `message-*`, `stream`).
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_agent.wire import errors
from edge_agent.wire.container import Kind
from tests.fuzz import disk, enrolment, network, updates
from tests.fuzz.mutations import Encoding

Decode = Callable[[bytes], None]
CORPUS = Path(__file__).with_name("corpus")


class Target(NamedTuple):
    """`share` is how many of a run's inputs it gets, beside the others: slow ones get fewer. `encoding` is how valid
    inputs are encoded, if by msgspec."""

    decode: Decode
    refusals: tuple[type[errors.RankfleetError], ...]
    share: float
    encoding: Encoding | None = None

    def run(self, data: bytes) -> None:
        """Decodes `data`, or sees it refused as documented."""
        with contextlib.suppress(*self.refusals):
            self.decode(data)


def corpus(name: str) -> list[bytes]:
    """The seeds of a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def _folder(name: str) -> Path:
    folder = _FILES / name
    folder.mkdir()
    return folder


def _network(decode: Decode, share: float, encoding: Encoding | None = None) -> Target:
    return Target(decode, network.REFUSALS, share, encoding)


_FILES = Path(tempfile.mkdtemp(prefix="rankfleet-fuzz-"))
atexit.register(shutil.rmtree, _FILES, ignore_errors=True)

_CONFIG, _DATA, _PACK, _STORE = (errors.ConfigError,), (errors.DataError,), (errors.PackError,), (errors.StoreError,)

TARGETS: dict[str, Target] = {
    "frame-from-agent": _network(network.frame_from_agent, 2.0),
    "frame-from-coordinator": _network(network.frame_from_coordinator, 2.0),
    "message-from-agent": _network(network.message_from_agent, 0.8, "msgpack"),
    "message-from-coordinator": _network(network.message_from_coordinator, 0.8, "msgpack"),
    "roster": _network(network.roster(_folder("roster")), 0.05),
    "update": _network(network.update, 1.0),
    "update-body": _network(network.sealing(Kind.UPDATE, network.update), 0.1),
    "statistics-body": _network(network.sealing(Kind.UPDATE, network.statistics), 0.05),
    "closing": _network(network.sealing(Kind.UPDATE, network.closing), 0.02),
    "head-start": _network(network.sealing(Kind.UPDATE, network.head_start), 0.02),
    "delta": _network(network.delta, 1.5),
    "delta-body": _network(network.sealing(Kind.DELTA, network.delta), 0.1),
    "snapshot": _network(network.snapshot, 1.5),
    "snapshot-body": _network(network.sealing(Kind.SNAPSHOT, network.snapshot), 0.1),
    "stream": _network(network.stream, 1.0),
    "row-set": _network(network.row_set, 0.1),
    "mask": _network(network.mask, 1.0),
    "chunks": _network(network.chunks, 0.5),
    "bitmap": Target(disk.bitmap(_folder("bitmap")), _STORE, 0.05),
    "manifest": Target(disk.manifest, _PACK, 0.5, "json"),
    "weights": Target(disk.weights(_folder("weights")), _PACK, 0.4, "json"),
    "tokenizer": Target(disk.tokenizer(_folder("tokenizer")), _PACK, 0.2, "json"),
    "agent-settings": Target(disk.agent_settings(_folder("agent-settings")), _CONFIG, 0.15),
    "coordinator-settings": Target(disk.coordinator_settings(_folder("coordinator-settings")), _CONFIG, 0.15),
    "users": Target(disk.users(_folder("users")), _CONFIG, 0.15),
    "data-jsonl": Target(disk.examples(_folder("data-jsonl"), "data.jsonl"), _DATA, 0.2),
    "data-csv": Target(disk.examples(_folder("data-csv"), "data.csv"), _DATA, 0.15),
    "data-gzip": Target(disk.examples(_folder("data-gzip"), "data.jsonl.gz"), _DATA, 0.1),
    "capabilities": Target(disk.capabilities(_folder("capabilities")), _CONFIG, 0.15, "json"),
    "scores": _network(disk.scores, 0.02),
    "stored-config": Target(disk.stored_config, _CONFIG, 0.4, "json"),
    "stored-value": Target(disk.stored_value(_folder("stored-value")), _STORE, 0.1, "msgpack"),
    "stored-ready": Target(disk.stored_row(_folder("stored-ready"), disk.stored_ready), _STORE, 0.2, "msgpack"),
    "stored-plan": Target(disk.stored_row(_folder("stored-plan"), disk.stored_plan), _STORE, 0.2, "msgpack"),
    "stored-report": Target(disk.stored_row(_folder("stored-report"), disk.stored_report), _STORE, 0.2, "msgpack"),
    "stored-record": Target(disk.stored_row(_folder("stored-record"), disk.stored_record), _STORE, 0.2, "json"),
    "outbox": Target(disk.outbox(_folder("outbox")), _STORE, 0.1, "msgpack"),
    "enrolment": Target(enrolment.submission(_folder("enrolment")), (errors.EnrolmentError,), 0.02, "json"),
    "orders": Target(updates.orders, (errors.ProtocolError,), 0.5, "json"),
    "release-report": Target(updates.report(_folder("release-report")), (errors.EnrolmentError,), 0.02, "json"),
    "question": Target(updates.question(_folder("question")), (errors.EnrolmentError,), 0.02),
    "spooled-order": Target(updates.spooled_order(_folder("spooled-order")), _STORE, 0.1, "json"),
    "spooled-report": Target(updates.spooled_report(_folder("spooled-report")), _STORE, 0.1, "json"),
    "trainer-line": Target(disk.trainer_line, (), 0.3, "json"),
    "prefix": Target(disk.prefix(_folder("prefix")), (), 0.05),
    "database": Target(disk.database(_folder("database")), _STORE, 0.02),
    "coordinator-database": Target(disk.coordinator_database(_folder("coordinator-database")), _STORE, 0.01),
}
