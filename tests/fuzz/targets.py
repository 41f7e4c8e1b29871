"""Every decoder that bytes from the network or from disk reach, by name.

A target takes any bytes. It passes over the errors that the decoder documents, and lets everything else escape: another
error, a failed assertion about what was accepted, a crash. Where a checksum or a compression would stop all but a few
inputs, a target of its own makes them right around what it is given (`*-body`, `message-*`, `stream`).
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_agent.wire import errors
from edge_agent.wire.container import Kind
from tests.fuzz import disk, network
from tests.fuzz.mutations import Encoding

Decode = Callable[[bytes], None]
CORPUS = Path(__file__).with_name("corpus")


class Target(NamedTuple):
    """`share` is how many of a run's inputs it gets, beside the others: slow ones get fewer. `encoding` is how valid
    inputs are encoded, if by msgspec."""

    decode: Decode
    refusals: tuple[type[errors.RankfleetError], ...]
    share: float = 1.0
    encoding: Encoding | None = None

    def run(self, data: bytes) -> None:
        """Decodes `data`, or sees it refused as documented."""
        try:
            self.decode(data)
        except self.refusals:
            pass


def corpus(name: str) -> list[bytes]:
    """The seeds of a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def _folder(name: str) -> Path:
    folder = _FILES / name
    folder.mkdir()
    return folder


def _network(decode: Decode, share: float = 1.0, encoding: Encoding | None = None) -> Target:
    return Target(decode, network.REFUSALS, share, encoding)


_FILES = Path(tempfile.mkdtemp(prefix="rankfleet-fuzz-"))
atexit.register(shutil.rmtree, _FILES, ignore_errors=True)
logging.getLogger("rankfleet").setLevel(logging.CRITICAL)  # an accepted refusal is no news here

_CONFIG, _DATA, _PACK, _STORE = (errors.ConfigError,), (errors.DataError,), (errors.PackError,), (errors.StoreError,)

TARGETS: dict[str, Target] = {
    "frame-from-agent": _network(network.frame_from_agent),
    "frame-from-coordinator": _network(network.frame_from_coordinator),
    "message-from-agent": _network(network.message_from_agent, 0.8, "msgpack"),
    "message-from-coordinator": _network(network.message_from_coordinator, 0.8, "msgpack"),
    "roster": _network(network.roster(_folder("roster")), 0.1),
    "update": _network(network.update),
    "update-body": _network(network.sealing(Kind.UPDATE, network.update), 0.1),
    "statistics-body": _network(network.sealing(Kind.UPDATE, network.statistics), 0.1),
    "closing": _network(network.sealing(Kind.UPDATE, network.closing), 0.03),
    "head-start": _network(network.sealing(Kind.UPDATE, network.head_start), 0.03),
    "delta": _network(network.delta),
    "delta-body": _network(network.sealing(Kind.DELTA, network.delta), 0.1),
    "snapshot": _network(network.snapshot),
    "snapshot-body": _network(network.sealing(Kind.SNAPSHOT, network.snapshot), 0.1),
    "stream": _network(network.stream),
    "row-set": _network(network.row_set, 0.1),
    "mask": _network(network.mask),
    "chunks": _network(network.chunks),
    "bitmap": Target(disk.bitmap(_folder("bitmap")), _STORE, 0.1),
    "manifest": Target(disk.manifest, _PACK, 0.8, "json"),
    "weights": Target(disk.weights(_folder("weights")), _PACK, 0.8, "json"),
    "tokenizer": Target(disk.tokenizer(_folder("tokenizer")), _PACK, 0.5, "json"),
    "agent-settings": Target(disk.agent_settings(_folder("agent-settings")), _CONFIG, 0.3),
    "coordinator-settings": Target(disk.coordinator_settings(_folder("coordinator-settings")), _CONFIG, 0.3),
    "users": Target(disk.users(_folder("users")), _CONFIG, 0.3),
    "data-jsonl": Target(disk.examples(_folder("data-jsonl"), "data.jsonl"), _DATA, 0.3),
    "data-csv": Target(disk.examples(_folder("data-csv"), "data.csv"), _DATA, 0.3),
    "data-gzip": Target(disk.examples(_folder("data-gzip"), "data.jsonl.gz"), _DATA, 0.2),
    "capabilities": Target(disk.capabilities(_folder("capabilities")), _CONFIG, 0.3, "json"),
    "scores": _network(disk.scores, 0.1),
    "stored-config": Target(disk.stored_config, _CONFIG, 0.5, "json"),
    "stored-value": Target(disk.stored_value(_folder("stored-value")), _STORE, 0.2, "msgpack"),
    "trainer-line": Target(disk.trainer_line, (), 0.5, "json"),
    "prefix": Target(disk.prefix(_folder("prefix")), (), 0.1),
    "database": Target(disk.database(_folder("database")), _STORE, 0.02),
}
