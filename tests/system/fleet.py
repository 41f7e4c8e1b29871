"""A fleet of real processes: one coordinator and its agents, on a tiny model and a task that can be learnt."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from coordinator import events
from coordinator.run import DATABASE
from coordinator.store import Store
from edge_agent import capability
from edge_agent.store import Model
from edge_agent.store import Store as AgentStore
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import Layout
from edge_agent.wire.state import ModelState
from tests.brokers import PASSWORD, free_port
from tests.models import WORDS, tiny_pack

NAME = "depot"
CLASSES = ("belt", "engine", "pump")
DEVICES = ("pi-1", "pi-2", "pi-3")
USERS = dict.fromkeys(("coordinator", *DEVICES), PASSWORD)
ROWS, ROUNDS, SLOTS = 40, 3, 3
BUDGET_BYTES = 256 * 2**20
TIMEOUT_S = 120.0
STOP_S = 15.0
POLL_S = 0.05
NO_VARIABLES: Mapping[str, str] = {}

E = TypeVar("E", bound=events.Watched)
_EVENT = msgspec.json.Decoder(events.AnyEvent)


@dataclass
class Settings:
    """What a test may change of its fleet. `round`, `head`, `training`, `broker`, `ranks`, `objectives`, `guard` are
    further lines of those tables."""

    rounds: int = ROUNDS
    seed: int = 0
    devices: tuple[str, ...] = DEVICES
    budgets: Mapping[str, int] = field(default_factory=dict)
    port: int | None = None
    """That of an external broker; None: the coordinator brings its own."""
    capabilities: Path | None = None
    pack: Path | None = None
    """None: `tiny_pack`."""
    text_words: int = 6
    round: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    broker: Mapping[str, Any] = field(default_factory=dict)
    local_training: Mapping[str, Any] = field(default_factory=dict)
    """That table of every agent."""
    ranks: Mapping[str, Any] = field(default_factory=dict)
    objectives: Mapping[str, Any] = field(default_factory=dict)
    guard: Mapping[str, Any] = field(default_factory=dict)
    agents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further lines of single agents, by name."""
    brokers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further lines of the `broker` table of single processes, by name."""
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What stands before the command of single processes, by name: so they run somewhere else."""


def _heed_ctrl_c() -> None:
    """A test run in the background of a shell ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Process:
    """One process of the fleet: its exit status, what it says, and how it is ended."""

    def __init__(self, command: list[str], name: str, log: Path, variables: Mapping[str, str]) -> None:
        self.name = name
        self._stderr, self._lines = log, list[str]()
        with log.open("xb") as file:
            self._popen = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **variables},
                start_new_session=True,
                preexec_fn=_heed_ctrl_c,  # noqa: PLW1509
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def lines(self) -> list[str]:
        """What it printed so far."""
        return list(self._lines)

    @property
    def stderr(self) -> str:
        """What it and its children said on standard error."""
        return self._stderr.read_text(errors="replace")

    @property
    def error(self) -> str:
        """The one line with which the command line ends in failure."""
        found = [line for line in self.stderr.splitlines() if line.startswith("rankfleet: ")]
        assert found, f"{self.name} gave no reason:\n{self.stderr}"
        return found[-1]

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """The exit status."""
        try:
            status = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end in {timeout_s} s:\n{self.stderr[-3000:]}") from None
        self._reader.join()
        return status

    def says(self, text: str, timeout_s: float = TIMEOUT_S) -> None:
        """Waits until standard error holds `text`."""
        wait_until(lambda: text in self.stderr, timeout_s, lambda: f"{self.name} never said {text!r}:\n{self.stderr}")

    def terminate(self) -> None:
        """Asks it to stop, as systemd does."""
        self._popen.terminate()

    def press_ctrl_c(self) -> None:
        """Interrupts it as a terminal does: with all of its descendants."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """Ends it the hard way."""
        self._popen.kill()
        self.wait()

    def children(self) -> list[psutil.Process]:
        """Its descendants."""
        return psutil.Process(self.pid).children(recursive=True) if self.running else []

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._lines.append(line.decode())


class Fleet:
    """Files and processes of one fleet in `folder`; see `run_folder` for those who only want a finished run."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder
        self.settings = settings or Settings()
        self.port = self.settings.port or free_port()
        self.run_dir = folder / "run"
        self.config = folder / "coordinator.toml"
        self.pack = self.settings.pack or tiny_pack()
        self._started: list[Process] = []
        self.write()

    def write(self) -> None:
        """Writes every file anew from the settings; state and run folders stay."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "users").write_text("".join(f"{name}:{word}\n" for name, word in USERS.items()))
        (self.folder / "password").write_text(PASSWORD)
        self.config.write_text(toml(self.coordinator_settings()))
        for number, name in enumerate(self.settings.devices):
            self.agent_folder(name).mkdir(exist_ok=True)
            write_rows(self.data(name), toy_rows(number, words=self.settings.text_words))
            self.agent_config(name).write_text(toml(self.agent_settings(name)))

    def agent_folder(self, name: str) -> Path:
        return self.folder / name

    def agent_config(self, name: str) -> Path:
        return self.agent_folder(name) / "agent.toml"

    def state_dir(self, name: str) -> Path:
        return self.agent_folder(name) / "state"

    def data(self, name: str) -> Path:
        return self.agent_folder(name) / "train.jsonl"

    @property
    def coordinator(self) -> Process:
        """The coordinator that was started last."""
        return [process for process in self._started if process.name == "coordinator"][-1]

    def start_coordinator(self, variables: Mapping[str, str] = NO_VARIABLES) -> Process:
        return self._start("coordinator", ("coordinator", "run", str(self.config), "--json"), variables)

    def start_agent(self, name: str, variables: Mapping[str, str] = NO_VARIABLES) -> Process:
        return self._start(name, ("agent", "run", str(self.agent_config(name))), variables)

    def start_agents(self) -> dict[str, Process]:
        return {name: self.start_agent(name) for name in self.settings.devices}

    def start_python(self, name: str, code: str) -> Process:
        """A process that runs `code` in place of the command."""
        return self._launch(name, ("-c", code), NO_VARIABLES)

    def run(self) -> list[events.Watched]:
        """Starts everything and waits until all of it ended well; what the coordinator told."""
        coordinator, agents = self.start_coordinator(), self.start_agents()
        assert_ends_well(coordinator, agents)
        return told(coordinator)

    def stop(self) -> None:
        """Ends what still runs, and with it its children."""
        for process in self._started:
            for child in process.children():
                child.kill()
            if process.running:
                process.kill()

    def layout(self) -> Layout:
        return module_layout(load_manifest(self.pack), self.settings.ranks.get("initial", SLOTS), len(CLASSES))

    def final_state(self) -> ModelState:
        """The coordinator's last checkpoint."""
        return states.from_bytes(self.checkpoint(), self.layout())

    def checkpoint(self) -> bytes:
        """The coordinator's last checkpoint, as it stands in its database."""
        with opened(Store(self.run_dir / DATABASE, read_only=True)) as store:
            checkpoint = store.checkpoint()
            assert checkpoint is not None
            return checkpoint.state

    def records(self) -> list[events.RoundRecord]:
        """Every closed round."""
        with opened(Store(self.run_dir / DATABASE, read_only=True)) as store:
            return [msgspec.json.decode(body, type=events.RoundRecord) for _, body in store.rounds()]

    def agent_state(self, name: str) -> bytes:
        """The model state as it stands in an agent's database."""
        return self.agent_model(name).state

    def agent_model(self, name: str) -> Model:
        """State and residual as they stand in an agent's database."""
        with opened(AgentStore(self.state_dir(name) / "agent.db", read_only=True)) as store:
            model: Model | None = store.model()
            assert model is not None
            return model

    def record_capabilities(self, path: Path) -> Path:
        """Writes what the devices measured of themselves to `path`."""
        with opened(Store(self.run_dir / DATABASE, read_only=True)) as store:
            readies = {
                row.name: msgspec.msgpack.decode(row.ready, type=m.Ready) for row in store.devices() if row.ready
            }
        path.write_bytes(capability.dump({name: ready.capability for name, ready in readies.items()}))
        return path

    def _start(self, name: str, arguments: tuple[str, ...], variables: Mapping[str, str]) -> Process:
        return self._launch(name, ("-m", "deploy.cli.main", *arguments), variables)

    def _launch(self, name: str, arguments: tuple[str, ...], variables: Mapping[str, str]) -> Process:
        log = self.folder / f"{name}.{len(self._started)}.log"
        command = [*self.settings.prefixes.get(name, ()), sys.executable, *arguments]
        self._started.append(Process(command, name, log, variables))
        return self._started[-1]

    def coordinator_settings(self) -> dict[str, Any]:
        """What `write` puts into the coordinator's configuration."""
        settings = self.settings
        count = len(settings.devices)
        users = {"users_file": "users"} if settings.port is None else {}
        return {
            "fleet": NAME,
            "pack": str(self.pack),
            "classes": CLASSES,
            "run_dir": "run",
            "seed": settings.seed,
            **users,
            "broker": {"port": self.port, "password_file": "password", **self._broker_settings("coordinator")},
            "round": {
                "rounds": settings.rounds, "expected": count, "quorum": count, "grace_s": 1.0, **settings.round,
            },
            "ranks": {
                "initial": SLOTS, "target": 1.0, "warmup_rounds": 0, "final_rounds": min(1, settings.rounds - 1),
                **settings.ranks,
            },
            "head": {**({"start": "seed"} if settings.rounds == 1 else {}), **settings.head},
            "objectives": settings.objectives,
            "guard": settings.guard,
            "training": {"batch_size": 8, "max_tokens": 16, "lr_head": 0.02, **settings.training},
        }  # fmt: skip

    def agent_settings(self, name: str) -> dict[str, Any]:
        """What `write` puts into an agent's configuration."""
        settings = self.settings
        replay = {} if settings.capabilities is None else {"capability": str(settings.capabilities)}
        return {
            "device": name,
            "fleet": NAME,
            "data": "train.jsonl",
            "state_dir": "state",
            **replay,
            **settings.agents.get(name, {}),
            "memory": {"budget_bytes": settings.budgets.get(name, BUDGET_BYTES)},
            "training": settings.local_training,
            "broker": {"port": self.port, "password_file": "../password", **self._broker_settings(name)},
        }

    def _broker_settings(self, name: str) -> dict[str, Any]:
        return {**self.settings.broker, **self.settings.brokers.get(name, {})}


@contextmanager
def fleet(folder: Path, settings: Settings | None = None) -> Iterator[Fleet]:
    """A fleet, and the end of all its processes."""
    one = Fleet(folder, settings)
    try:
        yield one
    finally:
        one.stop()


@contextmanager
def opened(store: Any) -> Iterator[Any]:
    try:
        yield store
    finally:
        store.close()


def assert_ends_well(coordinator: Process, agents: Mapping[str, Process], timeout_s: float = TIMEOUT_S) -> None:
    """Every process ends with status 0, and none shows a traceback."""
    for process in (coordinator, *agents.values()):
        assert process.wait(timeout_s) == 0, process.stderr[-3000:]
        assert "Traceback" not in process.stderr, process.stderr[-3000:]


def told(coordinator: Process) -> list[events.Watched]:
    """What a coordinator told so far."""
    return [_EVENT.decode(line) for line in coordinator.lines if line.endswith("\n")]


def of_kind(happened: list[events.Watched], kind: type[E]) -> list[E]:
    return [event for event in happened if isinstance(event, kind)]


def wait_event(
    coordinator: Process, kind: type[E], matches: Callable[[E], bool] = lambda event: True, timeout_s: float = TIMEOUT_S
) -> E:
    """The first event of a kind that matches, waiting for it while the coordinator lives."""
    found: list[E] = []

    def look() -> bool:
        found.extend(event for event in of_kind(told(coordinator), kind) if matches(event))
        return bool(found) or not coordinator.running

    wait_until(look, timeout_s, lambda: f"no {kind.__name__}; the coordinator told {coordinator.lines}")
    assert found, f"the coordinator ended without {kind.__name__}:\n{coordinator.stderr}"
    return found[0]


def wait_until(true: Callable[[], bool], timeout_s: float, complaint: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, complaint()
        time.sleep(POLL_S)


def assert_stops(process: Process, stop: Callable[[Process], None]) -> None:
    """`stop` ends a process in order: soon, with status 130, without a traceback, and nothing of it goes on."""
    children = process.children()
    stop(process)
    assert process.wait(STOP_S) == 130, process.stderr[-3000:]
    assert "Traceback" not in process.stderr, process.stderr[-3000:]
    _, alive = psutil.wait_procs(children, timeout=STOP_S)
    assert not alive


def toy_rows(seed: int, rows: int = ROWS, words: int = 6) -> list[dict[str, str]]:
    """Texts whose words tell their class: each class has a third of the vocabulary to itself."""
    generator = random.Random(seed)
    share = len(WORDS) // len(CLASSES)
    texts = []
    for row in range(rows):
        label = row % len(CLASSES)
        chosen = generator.choices(WORDS[label * share : (label + 1) * share], k=words)
        texts.append({"text": " ".join(chosen), "label": CLASSES[label]})
    return texts


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def toml(settings: Mapping[str, Any]) -> str:
    """`settings` as TOML: JSON's values are TOML's, for all that a configuration holds."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    return "\n".join(lines) + "".join(f"\n\n[{name}]\n{toml(table)}" for name, table in tables.items()) + "\n"
