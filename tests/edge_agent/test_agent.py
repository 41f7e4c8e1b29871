"""The real agent against a coordinator that the test speaks for, over the in-memory broker."""

from __future__ import annotations

import functools
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent import session
from edge_agent.agent import Agent
from edge_agent.config import AgentConfig, LocalTrainingSettings, MemorySettings
from edge_agent.service.busy import BUSY, is_held
from edge_agent.service.notify import Notifier
from edge_agent.service.reload import Change, merge
from edge_agent.service.service import Service
from edge_agent.store import Store
from edge_agent.wire import frame, link, replay, topics
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import ConfigError, FetchError, PackError, RankfleetError, StoreError
from edge_agent.wire.memory_link import MemoryBroker
from edge_agent.wire.pack import MANIFEST, WEIGHTS, load_manifest
from edge_agent.wire.pull import Puller
from edge_agent.wire.settings import BrokerSettings
from tests.agents import (
    EXAMPLES,
    PATIENCE_S,
    Gateway,
    make_welcome,
    path_sha256,
    plan_for,
    seed_state,
    snapshot,
    write_capability,
    write_data,
)
from tests.disks import GARBAGE, damage
from tests.models import tiny_pack
from tests.runs import CAPABILITY, FLEET, make_state

DEVICE = "pi-1"


def make_settings(folder: Path) -> AgentConfig:
    return AgentConfig(
        device=DEVICE,
        fleet=FLEET,
        data=write_data(folder / "texts.jsonl"),
        state_dir=folder / "state",
        broker=BrokerSettings(),
        capability=write_capability(folder / "recorded.json", DEVICE),
    )


class AgentThread:
    """An agent that runs in a thread of its own, as a process would: its store is opened there too."""

    def __init__(self, broker: MemoryBroker, settings: AgentConfig, service: Service | None = None) -> None:
        self.error: BaseException | None = None
        self._service = service
        self._broker = broker
        self._settings = settings
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            store = Store(self._settings.state_dir / "agent.db")
            try:
                Agent(self._settings, store, self._connect, self._service).run()
            finally:
                store.close()
        except BaseException as error:
            self.error = error

    def _connect(self, boot: int) -> link.Link:
        will = frame.encode(m.Offline("the connection was lost"), boot, replay.WILL_SEQUENCE)
        up = topics.up(FLEET, DEVICE)
        return self._broker.link(DEVICE, (topics.down(FLEET, DEVICE),), link.Will(up, will))

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def ends(self) -> None:
        """Waits for its end; raises what it raised."""
        self._thread.join(PATIENCE_S)
        assert self.ended, "the agent still runs"
        if self.error is not None:
            raise self.error


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(max_payload_bytes=16_384)


@pytest.fixture
def gateway(broker: MemoryBroker) -> Gateway:
    return Gateway(broker, DEVICE)


@pytest.fixture
def start(broker: MemoryBroker, gateway: Gateway, tmp_path: Path) -> Iterator[Callable[..., AgentThread]]:
    """Starts the agent, again after it ended; with other settings where they are given."""
    settings, started = make_settings(tmp_path), list[AgentThread]()

    def begin(**changes: object) -> AgentThread:
        started.append(AgentThread(broker, msgspec.structs.replace(settings, **changes)))
        return started[-1]

    yield begin
    for agent in started:
        if not agent.ended:
            gateway.say(m.Leave("the test is over"))
            agent._thread.join(PATIENCE_S)


Start = Callable[..., AgentThread]


def test_a_whole_run(start: Start, gateway: Gateway, tmp_path: Path) -> None:
    """Joins, fetches, measures, trains a round, offers, is acknowledged, keeps the final model, leaves."""
    agent = start()
    ready = gateway.welcomes()
    assert (ready.examples + ready.holdout, ready.version, ready.capability) == (EXAMPLES, 0, CAPABILITY)

    gateway.say(plan_for(seed_state()))
    offer = gateway.hears(m.Offer)
    update = gateway.pulls(offer)
    assert (offer.round, update.round, update.examples) == (1, 1, ready.examples)
    assert offer.report.bytes_up > 0 and offer.report.pack_bytes_down > (tiny_pack() / WEIGHTS).stat().st_size
    assert {"fetch", "wait", "load", "train"} <= {phase.name for phase in offer.report.phases}
    gateway.say(m.Acknowledged(1, offer.update.sha256))

    final, body = snapshot(make_state(1))
    gateway.objects[final.sha256] = body
    gateway.say(m.Final(1, (final,), states.digest(make_state(1))))
    finished = gateway.hears(m.Finished)
    assert finished.version == 1 and finished.accuracy is not None

    gateway.say(m.Leave("the run is over"))
    assert gateway.hears(m.Offline).reason == "the agent was stopped"
    agent.ends()
    store = Store(tmp_path / "state" / "agent.db")
    assert store.version() == 1 and store.outgoing() is None


def test_what_was_on_its_way_when_the_connection_was_lost_is_asked_for_again_at_once(
    start: Start, gateway: Gateway, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.fetching.Puller", functools.partial(Puller, timeout_s=1e6))
    start()
    gateway.hears(m.Hello)
    gateway.say(gateway.welcome)
    first = gateway.hears(m.Want, serving=False)
    broker.cut(DEVICE)
    broker.restore(DEVICE)
    again = gateway.hears(m.Want, serving=False)
    assert (again.sha256, again.indices[0]) == (first.sha256, first.indices[0])
    gateway.serve(again)
    gateway.hears(m.Ready)


def test_an_offer_is_made_again_after_a_restart_and_after_a_lost_connection(
    start: Start, gateway: Gateway, broker: MemoryBroker
) -> None:
    agent = start()
    gateway.welcomes()
    gateway.say(plan_for(seed_state()))
    offer = gateway.hears(m.Offer)
    broker.cut(DEVICE)
    assert gateway.hears(m.Offline).reason == "the connection was lost"
    broker.restore(DEVICE)
    gateway.welcomes()
    assert gateway.hears(m.Offer) == offer

    gateway.say(m.Leave("to start it again"))
    agent.ends()
    start()
    assert gateway.welcomes().version == 0
    assert gateway.hears(m.Offer).update == offer.update
    gateway.pulls(offer)


def test_a_plan_whose_delta_is_gone_is_given_up_and_the_next_one_taken(start: Start, gateway: Gateway) -> None:
    start()
    gateway.welcomes()
    state = make_state(1)
    ref, body = snapshot(state)
    gateway.say(plan_for(state, (ref,)))
    gateway.welcomes()
    gateway.objects[ref.sha256] = body
    gateway.say(plan_for(state, (ref,)))
    assert gateway.hears(m.Offer).round == 2


def test_the_next_plan_ends_the_training_of_the_one_before(start: Start, gateway: Gateway) -> None:
    start()
    gateway.welcomes()
    gateway.say(plan_for(seed_state()))
    ref, body = snapshot(make_state(1))
    gateway.objects[ref.sha256] = body
    gateway.say(plan_for(make_state(1), (ref,)))
    assert gateway.hears(m.Offer).round == 2
    assert not any(isinstance(message, m.Offer) and message.round == 1 for message in gateway.heard)


def test_training_goes_on_where_its_update_is_still_taken_in_the_next_round(start: Start, gateway: Gateway) -> None:
    start()
    gateway.welcomes()
    gateway.say(plan_for(seed_state(), late_rounds=1))
    gateway.hears(m.Progress)
    ref, body = snapshot(make_state(1))
    gateway.objects[ref.sha256] = body
    gateway.say(plan_for(make_state(1), (ref,)))
    offer = gateway.hears(m.Offer)
    assert offer.round == 1
    gateway.say(m.Acknowledged(1, offer.update.sha256))
    gateway.say(plan_for(make_state(1), (ref,)))
    assert gateway.hears(m.Offer).round == 2


def test_an_update_that_is_refused_leaves_no_trace(start: Start, gateway: Gateway) -> None:
    """What quantisation lost of it was never sent for good, so the same training gives the same update again."""
    start()
    gateway.welcomes()
    gateway.say(plan_for(seed_state()))
    first = gateway.hears(m.Offer)
    gateway.say(m.Rejected(1, "the round has no place for it", False))
    gateway.say(plan_for(seed_state()))
    assert gateway.hears(m.Offer).update == first.update


def test_before_the_next_round_it_is_asked_what_became_of_an_update(start: Start, gateway: Gateway) -> None:
    start()
    gateway.welcomes()
    gateway.say(plan_for(seed_state()))
    offer = gateway.hears(m.Offer)
    ref, body = snapshot(make_state(1))
    gateway.objects[ref.sha256] = body
    gateway.say(plan_for(make_state(1), (ref,)))
    assert gateway.hears(m.Offer) == offer
    gateway.say(m.Acknowledged(1, offer.update.sha256))
    gateway.say(plan_for(make_state(1), (ref,)))
    assert gateway.hears(m.Offer).round == 2


def test_a_job_that_fails_is_declined_and_the_agent_goes_on(start: Start, gateway: Gateway) -> None:
    start()
    gateway.welcomes()
    gateway.say(plan_for(seed_state(), state_sha256=bytes(32)))
    declined = gateway.hears(m.Declined)
    assert declined.round == 1 and "is not the coordinator's version" in declined.reason
    gateway.say(plan_for(seed_state()))
    assert gateway.hears(m.Offer).round == 1


def test_damaged_and_repeated_frames_change_nothing(start: Start, gateway: Gateway) -> None:
    start()
    gateway.hears(m.Hello)
    welcome = gateway.say(gateway.welcome)
    gateway.hears(m.Ready)
    leave = frame.encode(m.Leave("forged"), 1, 99)
    for payload in (b"", b"RF", welcome, welcome[:-1], leave[:-1] + b"x", leave[:4] + b"\xff" + leave[5:], bytes(5000)):
        gateway.send(payload)
    gateway.say(plan_for(seed_state()))
    assert gateway.hears(m.Offer).round == 1


def test_a_boot_that_is_not_new_is_raised_above_the_one_that_was_seen(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    agent = start()
    gateway.hears(m.Hello)
    gateway.say(m.Outdated(41))
    gateway.welcomes()
    gateway.say(m.Leave("over"))
    agent.ends()
    assert Store(tmp_path / "state" / "agent.db").next_boot() == 43


def test_greeted_before_it_spoke_an_agent_on_a_new_disk_still_learns_that_its_boot_is_outdated(
    start: Start, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "READY_AGAIN_S", 0.1)
    monkeypatch.setattr(session, "HELLO_AGAIN_S", 0.1)
    agent = start()
    gateway.hears(m.Hello)
    gateway.say(gateway.welcome)  # as one does that starts, and takes whatever else this agent says for outdated
    gateway.hears(m.Want, serving=False)
    gateway.hears(m.Hello)
    gateway.say(m.Outdated(41))
    gateway.welcomes()
    gateway.say(m.Leave("over"))
    agent.ends()
    assert Store(tmp_path / "state" / "agent.db").next_boot() == 43


def test_other_terms_start_from_the_seed_state(start: Start, gateway: Gateway, tmp_path: Path) -> None:
    agent = start()
    gateway.welcomes()
    ref, body = snapshot(make_state(1))
    gateway.objects[ref.sha256] = body
    gateway.say(plan_for(make_state(1), (ref,)))
    gateway.hears(m.Offer)
    gateway.say(make_welcome(seed=8))
    assert gateway.hears(m.Ready).version == 0
    gateway.say(m.Leave("over"))
    agent.ends()
    store = Store(tmp_path / "state" / "agent.db")
    assert store.model() is None and store.outgoing() is None


@pytest.fixture
def altered_pack(tmp_path: Path) -> Path:
    """The pack with one byte of its weights changed, as on a failing disk: the manifest knows nothing of it."""
    shutil.copytree(tiny_pack(), tmp_path / "altered")
    weights = tmp_path / "altered" / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    return tmp_path / "altered"


def test_a_pack_that_is_altered_at_the_coordinator_is_never_trained_on(
    start: Start, gateway: Gateway, altered_pack: Path
) -> None:
    gateway.objects[path_sha256(tiny_pack() / WEIGHTS)] = (altered_pack / WEIGHTS).read_bytes()
    agent = start()
    gateway.hears(m.Hello)
    gateway.say(gateway.welcome)
    assert gateway.hears_unless(m.Ready, lambda: agent.ended) is None
    with pytest.raises(FetchError, match="3 times in a row: the coordinator's copy is damaged"):
        agent.ends()


def test_a_pack_whose_tensors_do_not_fit_ends_the_agent_with_the_reason(
    start: Start, broker: MemoryBroker, tmp_path: Path
) -> None:
    pack_dir = shutil.copytree(tiny_pack(), tmp_path / "unfit")
    manifest = load_manifest(pack_dir)
    tensors = {name: entry for name, entry in manifest.tensors.items() if name != "block.1.output.dense.bias"}
    (pack_dir / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, tensors=tensors)))
    gateway, agent = Gateway(broker, DEVICE, pack_dir), start()
    gateway.hears(m.Hello)
    gateway.say(gateway.welcome)
    assert gateway.hears_unless(m.Ready, lambda: agent.ended) is None
    with pytest.raises(PackError, match=r"no tensor block\.1\.output\.dense\.bias, .*: build the pack again"):
        agent.ends()


def test_a_pack_that_is_altered_on_the_agents_disk_is_fetched_again(
    start: Start, gateway: Gateway, altered_pack: Path, tmp_path: Path
) -> None:
    agent = start()
    gateway.welcomes()
    gateway.say(m.Leave("over"))
    agent.ends()
    (kept,) = (tmp_path / "state" / "packs").iterdir()
    shutil.copy(altered_pack / WEIGHTS, kept / WEIGHTS)
    start()
    gateway.welcomes()
    assert (kept / WEIGHTS).read_bytes() == (tiny_pack() / WEIGHTS).read_bytes()


def test_an_interrupted_fetch_goes_on_where_it_was(start: Start, gateway: Gateway) -> None:
    agent = start()
    gateway.hears(m.Hello)
    gateway.say(gateway.welcome)
    weights_sha256 = path_sha256(tiny_pack() / WEIGHTS)
    while (want := gateway.hears(m.Want, serving=False)).sha256 != weights_sha256:
        gateway.serve(want)
    gateway.serve(msgspec.structs.replace(want, indices=want.indices[:3]))
    gateway.say(m.Leave("over"))
    agent.ends()
    start()
    gateway.hears(m.Hello)
    gateway.say(gateway.welcome)
    while (again := gateway.hears(m.Want, serving=False)).sha256 != weights_sha256:
        gateway.serve(again)
    assert not set(want.indices[:3]) & set(again.indices)
    gateway.serve(again)
    gateway.hears(m.Ready)


def test_data_that_cannot_be_read_ends_the_agent_with_the_reason(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    agent = start()
    (tmp_path / "texts.jsonl").write_text("not JSON\n")
    gateway.hears(m.Hello)
    gateway.say(gateway.welcome)
    assert gateway.hears(m.Declined).reason.startswith("a data file, line 1: ")
    with pytest.raises(RankfleetError, match=r"texts\.jsonl, line 1"):
        agent.ends()


def test_a_device_whose_folder_grows_says_so_and_trains_on_what_is_new(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    write_data(folder / "a.jsonl")
    start(data=folder, data_check_s=0.1)
    first = gateway.welcomes()
    assert first.examples + first.holdout == EXAMPLES
    shutil.copy(folder / "a.jsonl", folder / "b.jsonl.part")
    write_data(folder / "b.jsonl", 2 * EXAMPLES)
    grown = gateway.hears(m.Ready)
    while grown == first:  # it says what it was before the look too
        grown = gateway.hears(m.Ready)
    assert grown.examples + grown.holdout == 3 * EXAMPLES and grown.holdout >= first.holdout
    gateway.say(plan_for(seed_state()))
    assert gateway.hears(m.Offer).report.examples == grown.examples


def test_a_plan_comes_before_data_that_have_changed(start: Start, gateway: Gateway, tmp_path: Path) -> None:
    """Nothing of the round is lost, nor of the change: it is measured once the round is over."""
    folder = tmp_path / "texts"
    folder.mkdir()
    write_data(folder / "a.jsonl")
    start(data=folder, data_check_s=0.05)
    first = gateway.welcomes()
    write_data(folder / "b.jsonl")
    gateway.say(plan_for(seed_state()))
    offer = gateway.hears(m.Offer)
    gateway.pulls(offer)
    gateway.say(m.Acknowledged(1, offer.update.sha256))
    grown = first
    while grown.examples == first.examples:
        grown = gateway.hears(m.Ready)
    assert grown.examples + grown.holdout == 2 * EXAMPLES


def test_a_row_that_spoils_the_data_costs_rounds_and_not_the_agent(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    write_data(folder / "a.jsonl")
    agent = start(data=folder, data_check_s=0.1)
    first = gateway.welcomes()
    (folder / "secret.jsonl").write_text('{"text": "secret", "label": "secret"}\n')
    gateway.say(plan_for(seed_state()))
    declined = gateway.hears(m.Declined)
    assert declined.round == 1 and declined.reason.startswith("a data file, line 1: the field 'label' names no class")
    assert "secret" not in declined.reason and not agent.ended
    write_data(folder / "secret.jsonl")
    grown = first
    while grown.examples == first.examples:
        grown = gateway.hears(m.Ready)
    gateway.say(plan_for(seed_state(), round=2))
    assert gateway.hears(m.Offer).report.examples == grown.examples


def test_a_final_refusal_ends_the_agent_with_the_reason(start: Start, gateway: Gateway) -> None:
    agent = start()
    gateway.hears(m.Hello)
    gateway.say(m.Rejected(None, "another protocol", final=True))
    with pytest.raises(RankfleetError, match="the coordinator refused: another protocol"):
        agent.ends()


@pytest.mark.parametrize("key", ["boot", "welcome", "account", "capability", "capability_of", "link_bytes_per_s"])
def test_an_agent_goes_on_without_a_value_that_is_damaged(
    start: Start, gateway: Gateway, tmp_path: Path, key: str
) -> None:
    store = Store(tmp_path / "state" / "agent.db")
    store.put(**{key: GARBAGE})
    store.close()
    start()
    gateway.welcomes()
    gateway.say(plan_for(seed_state()))
    assert gateway.hears(m.Offer).round == 1


def test_an_agent_whose_database_is_none_says_what_to_do(start: Start, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "agent.db").write_bytes(GARBAGE * 1000)
    with pytest.raises(StoreError, match=r"agent\.db cannot be used"):
        start().ends()


@pytest.mark.parametrize("column", ["report", "body"])
def test_a_round_whose_update_is_damaged_before_it_was_sent_is_trained_again(
    start: Start, gateway: Gateway, tmp_path: Path, column: str
) -> None:
    agent = start()
    gateway.welcomes()
    gateway.say(plan_for(seed_state()))
    gateway.hears(m.Offer)
    gateway.say(m.Leave("to start it again"))
    agent.ends()
    damage(tmp_path / "state" / "agent.db", f"UPDATE outbox SET {column} = ?", GARBAGE)
    gateway.heard.clear()
    start()
    assert gateway.welcomes().version == 0
    gateway.say(plan_for(seed_state()))
    again = gateway.hears(m.Offer)
    assert [message for message in gateway.heard if isinstance(message, m.Offer)] == [again]
    assert gateway.pulls(again).round == 1


def test_a_device_whose_model_is_damaged_takes_the_fleets(start: Start, gateway: Gateway, tmp_path: Path) -> None:
    agent, path = start(), tmp_path / "state" / "agent.db"
    gateway.welcomes()
    ref, body = snapshot(make_state(1))
    gateway.objects[ref.sha256] = body
    gateway.say(plan_for(make_state(1), (ref,)))
    gateway.hears(m.Offer)
    gateway.say(m.Leave("to start it again"))
    agent.ends()
    damage(path, "UPDATE model SET state = ?", GARBAGE)
    start()
    assert gateway.welcomes().version == 0
    gateway.say(plan_for(make_state(1), (ref,)))
    assert gateway.pulls(gateway.hears(m.Offer)).version == 1


def test_a_capabilities_file_without_the_device_is_named(start: Start, gateway: Gateway, tmp_path: Path) -> None:
    write_capability(tmp_path / "recorded.json", "pi-2")
    agent = start()
    gateway.hears(m.Hello)
    gateway.say(gateway.welcome)
    assert gateway.hears_unless(m.Ready, lambda: agent.ended) is None
    with pytest.raises(ConfigError, match="has no capability of pi-1"):
        agent.ends()


def test_an_agent_is_busy_from_its_plan_until_its_update_was_taken(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    """Whoever updates the agent waits for that."""
    lock = tmp_path / "state" / BUSY
    start()
    gateway.welcomes()
    assert not is_held(lock)
    gateway.say(plan_for(seed_state()))
    gateway.hears(m.Progress)
    assert is_held(lock)
    offer = gateway.hears(m.Offer)
    assert is_held(lock)
    gateway.say(m.Acknowledged(1, offer.update.sha256))
    limit_s = time.monotonic() + PATIENCE_S
    while is_held(lock):
        assert time.monotonic() < limit_s


class Reloads(Service):
    """A service whose signal a test sends: it hands over the settings that are put into `new`."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir, Notifier({}))
        self.new: AgentConfig | None = None

    def reloaded(self, old: AgentConfig, check: Callable[[AgentConfig], object]) -> Change | None:
        new, self.new = self.new, None
        if new is None:
            return None
        check(new)
        return merge(old, new)


def test_other_data_and_another_budget_are_said_and_used_without_a_restart(
    broker: MemoryBroker, gateway: Gateway, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(make_settings(tmp_path), capability=None, memory=MemorySettings(2**30))
    service = Reloads(tmp_path / "state")
    agent = AgentThread(broker, settings, service)
    before = gateway.welcomes()
    service.new = msgspec.structs.replace(
        settings, data=write_data(tmp_path / "more.jsonl", 2 * EXAMPLES), memory=MemorySettings(2**29)
    )
    ready = gateway.hears(m.Ready)
    while ready == before:  # said again meanwhile
        ready = gateway.hears(m.Ready)
    assert (ready.examples + ready.holdout, ready.capability.budget_bytes) == (2 * EXAMPLES, 2**29)
    assert ready.capability.cost != before.capability.cost, "measured again"
    gateway.say(m.Leave("the test is over"))
    agent.ends()


def test_settings_that_nothing_is_measured_with_change_without_a_word(
    broker: MemoryBroker, gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rankfleet.agent")
    settings, service = make_settings(tmp_path), Reloads(tmp_path / "state")
    agent = AgentThread(broker, settings, service)
    gateway.welcomes()
    service.new = msgspec.structs.replace(settings, training=LocalTrainingSettings(checkpoint_s=1.0))
    gateway.say(plan_for(seed_state()))
    gateway.hears(m.Offer)
    assert sum("-> measuring" in line for line in caplog.messages) == 1
    gateway.say(m.Leave("the test is over"))
    agent.ends()
