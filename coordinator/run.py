"""Starts a coordinator: its broker if it brings its own, its link, its store; and ends them in order."""

from __future__ import annotations

from contextlib import ExitStack

from coordinator.broker import EmbeddedBroker
from coordinator.config import CoordinatorConfig, encode, load_users
from coordinator.desk import Desk
from coordinator.events import Watch
from coordinator.home_assistant import HomeAssistant
from coordinator.journal import FILE as JOURNAL
from coordinator.journal import Recorder
from coordinator.objects import Objects
from coordinator.plans import Planner, fleet_layout
from coordinator.recovery import mend
from coordinator.server import Coordinator
from coordinator.store import Store
from edge_agent.wire import logs, topics
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.folder_lock import only_one
from edge_agent.wire.mqtt import MqttLink
from edge_agent.wire.settings import mqtt_settings

DATABASE = "coordinator.db"


def run(config: CoordinatorConfig, watch: Watch) -> tuple[str, ...]:
    """Runs the fleet of `config` to its end; returns the devices that did not confirm the final model.

    Raises:
        ConfigError, PackError: the configuration or the pack cannot be used.
        LinkError: the broker refuses.
        StoreError: the run folder cannot be written.
    """
    with ExitStack() as stack:
        stack.enter_context(only_one(config.run_dir, "coordinator"))
        recorder = Recorder(config.run_dir / JOURNAL, watch)
        stack.callback(recorder.close)
        store = Store(config.run_dir / DATABASE)
        stack.callback(store.close)
        objects = Objects(config.pack, store)
        _check_run(store, objects, config)
        mended = mend(store, fleet_layout(config), config.seed)
        if mended is not None:
            recorder(mended)
        logs.concern(fleet=config.fleet, run=store.run_id().hex())
        planner = Planner(config, objects, store.run_id())
        if config.users_file is not None:
            _start_broker(config, stack)
        link = MqttLink(mqtt_settings(config.broker, topics.COORDINATOR), (topics.every_up(config.fleet),))
        stack.callback(link.close)
        desk = Desk(config.fleet, store, objects, link)
        told = HomeAssistant(config.fleet, link.retain, recorder) if config.home_assistant else recorder
        return Coordinator(config, store, desk, planner, link, told).run()


def _start_broker(config: CoordinatorConfig, stack: ExitStack) -> None:
    assert config.users_file is not None
    broker = config.broker
    users = load_users(config.users_file)
    stack.enter_context(
        EmbeddedBroker(users, host=broker.host, port=broker.port, max_packet_bytes=broker.max_packet_bytes)
    )


def _check_run(store: Store, objects: Objects, config: CoordinatorConfig) -> None:
    """A run folder belongs to one fleet, pack, seed and set of classes: its checkpoints mean nothing to another."""
    pack = objects.manifest.sha256
    terms = repr((config.fleet, config.seed, config.ranks.initial, config.classes, pack.hex()))
    known = store.get("terms")
    if known is not None and known != terms.encode():
        raise ConfigError(
            f"{config.run_dir} holds a run with another fleet, pack, seed, classes or initial ranks: "
            "choose another run_dir, or delete it to start anew"
        )
    store.put(terms=terms.encode(), config=encode(config), pack=pack)
