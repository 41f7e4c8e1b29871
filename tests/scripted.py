"""A real coordinator in a thread, and devices that say what a test tells them to, over the in-memory broker."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from coordinator import events
from coordinator.config import CoordinatorConfig, HeadSettings, RankSettings, RoundSettings, TrainingSettings
from coordinator.desk import Desk
from coordinator.objects import Objects
from coordinator.plans import Planner
from coordinator.recovery import mend
from coordinator.run import DATABASE
from coordinator.server import Coordinator
from coordinator.store import Store
from edge_agent.update import Part, make_statistics
from edge_agent.wire import codec, frame, link, topics, transfer
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.class_statistics import statistics_layout
from edge_agent.wire.memory_link import MemoryBroker, MemoryLink
from edge_agent.wire.pack import MANIFEST, load_manifest, module_layout
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import HEAD, Layout, keep_top, unpack_mask
from edge_agent.wire.rowset import quantise_rows
from tests.models import tiny_pack
from tests.runs import CAPABILITY, CLASSES, FLEET, SLOTS
from tests.wire.examples import REPORT

M = TypeVar("M", bound=m.Message)
PATIENCE_S = 20.0
"""When a test that waits for something gives up; nothing takes as long unless it fails."""


def make_config(run_dir: Path, **settings: Any) -> CoordinatorConfig:
    """Two rounds of training of three devices on the tiny pack; `settings` are of `RoundSettings`."""
    defaults = {"rounds": 2, "expected": 3, "quorum": 2, "grace_s": 30.0, "deadline_s": 60.0}
    return CoordinatorConfig(
        fleet=FLEET,
        pack=tiny_pack(),
        classes=CLASSES,
        run_dir=run_dir,
        round=RoundSettings(**{**defaults, **settings}),
        ranks=RankSettings(initial=SLOTS, target=1.0, warmup_rounds=0, final_rounds=0),
        head=HeadSettings("seed"),
        training=TrainingSettings(max_tokens=16, quantisation="int8"),
    )


def tiny_layout() -> Layout:
    return module_layout(load_manifest(tiny_pack()), SLOTS, len(CLASSES))


class CrashedError(Exception):
    """The process of the coordinator dies."""


class BreakableLink:
    """A link whose owner dies in `receive` when told to."""

    def __init__(self, inner: MemoryLink) -> None:
        self._inner = inner
        self.broken = threading.Event()

    def receive(self, timeout_s: float) -> link.Event | None:
        if self.broken.is_set():
            raise CrashedError
        return self._inner.receive(min(timeout_s, 0.005))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Gateway:
    """A coordinator in a thread of its own; `events` is what it told, `result` what `run` returned."""

    def __init__(self, broker: MemoryBroker, config: CoordinatorConfig, store: Callable[[Path], Store] = Store) -> None:
        self.events: list[events.Watched] = []
        self.result: tuple[str, ...] | None = None
        self.error: BaseException | None = None
        self._config = config
        self._make_store = store
        self._link = BreakableLink(broker.link(topics.COORDINATOR, (topics.every_up(config.fleet),)))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        store = self._make_store(self._config.run_dir / DATABASE)
        try:
            objects = Objects(self._config.pack, store)
            mended = mend(store, tiny_layout(), self._config.seed)
            if mended is not None:
                self.events.append(mended)
            planner = Planner(self._config, objects, store.run_id())
            desk = Desk(self._config.fleet, store, objects, self._link)
            self.result = Coordinator(self._config, store, desk, planner, self._link, self.events.append).run()
        except BaseException as error:
            self.error = error
        finally:
            store.close()
            self._link.close()

    def crash(self) -> None:
        self._link.broken.set()
        self.join()
        assert isinstance(self.error, CrashedError), self.error

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"the coordinator still runs; it told {self.events[-5:]}"

    def ends(self) -> tuple[str, ...]:
        """The devices that were missing at the end of the run."""
        self.join()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def tells(self, kind: type[Any], count: int = 1) -> list[Any]:
        """Waits until it told of `count` events of `kind`."""
        limit_s = time.monotonic() + PATIENCE_S
        while len(self.told(kind)) < count:
            assert time.monotonic() < limit_s, f"no {kind.__name__}; it told {self.events}"
            time.sleep(0.002)
        return self.told(kind)


class Device:
    """A device that serves what is asked of it; everything else a test says for it."""

    def __init__(self, broker: MemoryBroker, name: str, boot: int = 1) -> None:
        self.name = name
        self.layout = tiny_layout()
        self.objects: dict[bytes, bytes] = {}
        self.heard: list[m.Message] = []
        self.capability = CAPABILITY
        self.version = 0
        self._broker = broker
        self._decoder = frame.Decoder(m.FromCoordinator)
        self._boot = boot
        self._sequence = 0
        self._connect()

    def _connect(self) -> None:
        up = topics.up(FLEET, self.name)
        will = link.Will(up, frame.encode(m.Offline("the connection was lost"), self._boot, 0))
        self.link = self._broker.link(self.name, (topics.down(FLEET, self.name),), will)

    def vanish(self) -> None:
        """The connection is cut: the broker sends the will."""
        self._broker.cut(self.name)

    def restart(self) -> None:
        self._boot, self._sequence = self._boot + 1, 0
        self._connect()

    def say(self, message: m.Message) -> bytes:
        """Sends `message`; returns the frame."""
        self._sequence += 1
        payload = frame.encode(message, self._boot, self._sequence)
        self.send(payload)
        return payload

    def send(self, payload: bytes) -> None:
        self.link.publish(topics.up(FLEET, self.name), payload)

    def hears(self, kind: type[M], timeout_s: float = PATIENCE_S) -> M:
        """The next message of `kind`; serves what is asked for on the way, keeps the rest in `heard`."""
        limit_s = time.monotonic() + timeout_s
        while time.monotonic() < limit_s:
            event = self.link.receive(0.05)
            if not isinstance(event, link.Received):
                continue
            message = self._decoder.decode(event.payload).message
            self.heard.append(message)
            if isinstance(message, m.Want) and kind is not m.Want:
                self._serve(message)
            if isinstance(message, kind):
                return message
        raise AssertionError(f"{self.name} heard no {kind.__name__} but {self.heard[-5:]}")

    def hears_nothing(self, kind: type[m.Message], within_s: float = 0.3) -> None:
        try:
            found = self.hears(kind, within_s)
        except AssertionError:
            return
        raise AssertionError(f"{self.name} heard {found}")

    def _serve(self, want: m.Want) -> None:
        if want.sha256 not in self.objects:
            self.say(m.Missing(want.sha256))
            return
        for chunk in transfer.serve(want, transfer.BytesSource(self.objects[want.sha256])):
            self.say(chunk)

    def pull(self, ref: m.ObjectRef, chunk_bytes: int = 4096) -> bytes:
        """Pulls an object from the coordinator."""
        sink = transfer.MemorySink()
        receiver = transfer.Receiver(ref, sink, chunk_bytes, window=4)
        while not receiver.done:
            want = receiver.want()
            if want is not None:
                self.say(want)
            receiver.take(self.hears(m.Chunk))
        receiver.finish()
        return sink.data

    def join(self) -> None:
        """Hello, Welcome, Ready."""
        self.say(m.Hello("0.1.0", None, self.version))
        self.hears(m.Welcome)
        self.say(self.ready())

    def ready(self) -> m.Ready:
        pack = hashlib.sha256((tiny_pack() / MANIFEST).read_bytes()).digest()
        return m.Ready(pack, 20, 5, 12, self.version, self.capability)

    def trained(self, plan: m.Plan, **changes: Any) -> codec.Update:
        """A plausible update of `plan`, the same for the same device and round."""
        ranks = unpack_mask(plan.trained, self.layout)
        generator = np.random.default_rng([plan.round, *self.name.encode()])
        change = {
            module.name: generator.standard_normal((len(slots), module.width)).astype(np.float32) / 10
            for module, slots in self.layout.living(ranks)
        }
        change[HEAD] = generator.standard_normal((self.layout.classes, self.layout.d_model + 1)).astype(np.float32)
        rows, _ = quantise_rows(self.layout, change, self.layout.empty_rows(), ranks, find_scheme("int8"))
        scores = np.where(ranks, generator.random(ranks.shape), 0).astype(np.float16).astype(np.float32)
        votes = keep_top(scores, ranks, int(ranks.sum()) // 2)
        update = codec.Update(plan.round, plan.version, 18, votes, scores, rows)
        return replace(update, **changes)

    def looked(self, plan: m.Plan) -> codec.Update:
        """Plausible statistics of the classes, the same for the same device."""
        generator = np.random.default_rng([*self.name.encode()])
        layout = statistics_layout(self.layout)
        table = generator.standard_normal((layout.classes, layout.d_model + 1)).astype(np.float32)
        table[:, -1] = 0
        table[: self.layout.classes, -1] = 1 / self.layout.classes
        part = Part(plan.round, unpack_mask(plan.trained, self.layout), plan.budget_ranks, 18, find_scheme("int8"))
        return make_statistics(part, states.seed_state(self.layout, 0), {HEAD: table})

    def offer(self, plan: m.Plan, update: codec.Update | None = None, **report: Any) -> m.Offer:
        """Offers `update`, or a plausible one; returns the offer."""
        if plan.work != "train":
            update, report = update or self.looked(plan), {"steps": 0, "loss": None, "step_s": None, **report}
        update = update or self.trained(plan)
        body = codec.encode_update(update, self.layout if update.scores.size else statistics_layout(self.layout))
        return self.offer_bytes(plan, body, **report)

    def offer_bytes(self, plan: m.Plan, body: bytes, **report: Any) -> m.Offer:
        sha256 = hashlib.sha256(body).digest()
        self.objects[sha256] = body
        said = msgspec.structs.replace(REPORT, **{"examples": 18, "holdout_correct": 3, "holdout_total": 5, **report})
        offer = m.Offer(plan.round, m.ObjectRef("update", sha256, len(body)), said)
        self.say(offer)
        return offer

    def takes_part(self) -> m.Plan:
        """One whole round: the plan, an update, its acknowledgement."""
        plan = self.hears(m.Plan)
        offer = self.offer(plan)
        assert self.hears(m.Acknowledged) == m.Acknowledged(plan.round, offer.update.sha256)
        self.version = plan.version
        return plan


def catch_up(device: Device, before: states.ModelState, refs: tuple[m.ObjectRef, ...]) -> states.ModelState:
    """The state that the objects `refs` lead to."""
    for ref in refs:
        body = device.pull(ref)
        if ref.kind == "snapshot":
            before = states.from_bytes(body, device.layout)
        else:
            before = codec.apply_delta(before, codec.decode_delta(body, device.layout))
    return before


def last_state(config: CoordinatorConfig) -> states.ModelState:
    """The last checkpoint of a run."""
    store = Store(config.run_dir / DATABASE, read_only=True)
    checkpoint = store.checkpoint()
    store.close()
    assert checkpoint is not None
    return states.from_bytes(checkpoint.state, tiny_layout())


def all_of(devices: Mapping[str, Device], step: Callable[[Device], object]) -> None:
    """`step` of every device, one after another."""
    for device in devices.values():
        step(device)
