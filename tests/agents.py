"""What an agent needs for a round on the tiny pack: data, terms, plans, and a coordinator that a test speaks for."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from edge_agent import jobs
from edge_agent.wire import codec, frame, link, topics, transfer
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.memory_link import MemoryBroker
from edge_agent.wire.pack import MANIFEST, load_manifest, module_layout
from edge_agent.wire.ranks import Layout, pack_mask
from edge_agent.wire.state import ModelState
from tests.models import tiny_pack
from tests.runs import CAPABILITY, CLASSES, FLEET, SLOTS

M = TypeVar("M", bound=m.Message)
PATIENCE_S = 60.0
"""When a test that waits for something gives up; nothing takes as long unless it fails."""
EXAMPLES = 30
TRAINING = m.Training(
    batch_size=8,
    local_steps=3,
    lr=1e-3,
    lr_e=1e-2,
    lr_head=1e-2,
    weight_decay=0.01,
    epsilon=1e-8,
    scale=0.7,
    max_tokens=16,
    calibration=0.0,
    importance="magnitude",
    quantisation="int8",
)


def write_data(path: Path, examples: int = EXAMPLES) -> Path:
    """Labelled texts whose words tell the class."""
    lines = (
        {"text": f"word{i % 3} word{10 + i % 3} word{20 + i % 7}", "label": CLASSES[i % 3]} for i in range(examples)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def make_welcome(pack_dir: Path | None = None, **changes: object) -> m.Welcome:
    manifest = ((pack_dir or tiny_pack()) / MANIFEST).read_bytes()
    ref = m.ObjectRef("manifest", hashlib.sha256(manifest).digest(), len(manifest))
    return msgspec.structs.replace(m.Welcome(FLEET, bytes(16), 7, SLOTS, CLASSES, ref, TRAINING), **changes)


def make_terms(folder: Path, **changes: object) -> jobs.Terms:
    """Terms of jobs on the tiny pack, with a budget that is never in the way."""
    terms = jobs.Terms(
        device="pi-1",
        welcome=make_welcome(),
        pack_dir=str(tiny_pack()),
        store=str(folder / "agent.db"),
        data=str(write_data(folder / "texts.jsonl")),
        holdout_share=0.2,
        threads=1,
        budget_bytes=2**31,
        supervisor_bytes=2**20,
        supervisor_peak_rss_bytes=2**21,
    )
    return msgspec.structs.replace(terms, **changes)


def tiny_layout() -> Layout:
    return module_layout(load_manifest(tiny_pack()), SLOTS, len(CLASSES))


def seed_state() -> ModelState:
    return states.seed_state(tiny_layout(), make_welcome().seed)


def plan_for(state: ModelState, refs: tuple[m.ObjectRef, ...] = (), **changes: object) -> m.Plan:
    """The plan of the round that starts from `state`: every living rank, all blocks."""
    plan = m.Plan(
        round=state.version + 1,
        rounds=9,
        version=state.version,
        deltas=refs,
        state_sha256=states.digest(state),
        work="train",
        trained=pack_mask(state.mask),
        budget_ranks=int(state.mask.sum()),
        lowest_block=0,
        deadline_s=600.0,
        late_rounds=0,
    )
    return msgspec.structs.replace(plan, **changes)


def snapshot(state: ModelState) -> tuple[m.ObjectRef, bytes]:
    body = states.to_bytes(state)
    return m.ObjectRef("snapshot", hashlib.sha256(body).digest(), len(body)), body


class Gateway:
    """The coordinator's side of the wire: it serves what it has, and says what a test tells it to."""

    def __init__(self, broker: MemoryBroker, device: str, pack_dir: Path | None = None) -> None:
        self.welcome = make_welcome(pack_dir)
        self.heard: list[m.Message] = []
        self.objects = {path_sha256(path): path.read_bytes() for path in (pack_dir or tiny_pack()).iterdir()}
        self._device = device
        self._boot, self._sequence = 1, 0
        self._decoder = frame.Decoder(m.FromAgent)
        self._link = broker.link(topics.COORDINATOR, (topics.every_up(FLEET),))

    def say(self, message: m.Message) -> bytes:
        """Sends `message`; returns the frame."""
        self._sequence += 1
        payload = frame.encode(message, self._boot, self._sequence)
        self.send(payload)
        return payload

    def send(self, payload: bytes) -> None:
        self._link.publish(topics.down(FLEET, self._device), payload)

    def hears(self, kind: type[M], *, serving: bool = True) -> M:
        """The next message of `kind`; the rest is kept in `heard`, what is asked for on the way is served."""
        found = self.hears_unless(kind, lambda: False, serving=serving)
        assert found is not None, f"heard no {kind.__name__} but {self.heard[-5:]}"
        return found

    def hears_unless(self, kind: type[M], ended: Callable[[], bool], *, serving: bool = True) -> M | None:
        """As `hears`; None once `ended` or out of patience."""
        limit_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit_s and not ended():
            event = self._link.receive(0.05)
            if not isinstance(event, link.Received):
                continue
            message = self._decoder.decode(event.payload).message
            self.heard.append(message)
            if isinstance(message, m.Want) and serving:
                self.serve(message)
            if isinstance(message, kind):
                return message
        return None

    def serve(self, want: m.Want) -> None:
        if want.sha256 not in self.objects:
            self.say(m.Missing(want.sha256))
            return
        for chunk in transfer.serve(want, transfer.BytesSource(self.objects[want.sha256])):
            self.say(chunk)

    def welcomes(self) -> m.Ready:
        """Hello, Welcome, the pack, Ready."""
        self.hears(m.Hello)
        self.say(self.welcome)
        return self.hears(m.Ready)

    def pulls(self, offer: m.Offer, chunk_bytes: int = 4096) -> codec.Update:
        """The update that is offered, decoded."""
        sink = transfer.MemorySink()
        receiver = transfer.Receiver(offer.update, sink, chunk_bytes, window=4)
        while not receiver.done:
            want = receiver.want()
            if want is not None:
                self.say(want)
            receiver.take(self.hears(m.Chunk))
        receiver.finish()
        layout = tiny_layout()
        return codec.decode_update(sink.data, layout, limit_bytes=codec.update_limit_bytes(layout))


def path_sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def write_capability(path: Path, device: str) -> Path:
    """A recorded capability, so that no test need wait for a measurement."""
    path.write_bytes(msgspec.json.encode({device: CAPABILITY}))
    return path
