"""What a service manager hears of the loop, in a process of its own where signals are concerned."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.service.busy import BUSY, is_held
from edge_agent.service.notify import Notifier
from edge_agent.service.service import Service
from edge_agent.wire.settings import BrokerSettings

RELOADING = """
import logging, os, signal, sys
from pathlib import Path
from edge_agent import config
from edge_agent.service.notify import Notifier
from edge_agent.service.service import Service
from edge_agent.wire.errors import ConfigError
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
path = Path(sys.argv[1])
settings = config.load(path)
def refuse(new):
    if new.threads == 7:
        raise ConfigError("seven threads")
service = Service(path.parent, Notifier({}), lambda: config.load(path))
for text in sys.argv[2:]:
    path.write_text(path.read_text().replace(*text.split("=>")))
    assert service.reloaded(settings, refuse) is None, "nobody has asked"
    os.kill(os.getpid(), signal.SIGHUP)
    change = service.reloaded(settings, refuse)
    settings = settings if change is None else change.settings
    print("threads", settings.threads, settings.device)
"""
CONFIG = 'device = "pi-1"\nfleet = "f"\ndata = "a"\nstate_dir = "s"\nthreads = 1\n[broker]\n'


def test_the_manager_hears_each_state_once_and_the_lock_follows(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5.0)
        service = Service(tmp_path, Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
        service.ready()
        for _ in range(3):
            service.stands(online=False, phase="joining", busy=False)
        service.stands(online=True, phase="training", busy=True)
        assert is_held(tmp_path / BUSY)
        service.stands(online=True, phase="idle", busy=False)
        assert not is_held(tmp_path / BUSY)
        service.stands(online=True, phase="training", busy=True)
        service.stopping()
        assert not is_held(tmp_path / BUSY)
        heard = [manager.recv(999).decode().replace("\n", " ") for _ in range(6)]
    assert heard == [
        "READY=1 STATUS=waiting for the broker",
        "STATUS=joining, no connection to the broker",
        "STATUS=training",
        "STATUS=idle",
        "STATUS=training",
        "STOPPING=1 STATUS=stopping",
    ]


def reloading(tmp_path: Path, *changes: str) -> str:
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-c", RELOADING, str(config), *changes],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_signal_has_the_file_read_again_and_says_what_changed(tmp_path: Path) -> None:
    said = reloading(tmp_path, "threads = 1=>threads = 4", "pi-1=>pi-2")
    assert "INFO the configuration was read again; changed: threads\nthreads 4 pi-1" in said
    assert "these settings change with a restart only: device\nthreads 4 pi-1" in said


def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(tmp_path: Path) -> None:
    said = reloading(tmp_path, "threads = 1=>threads = 0", "threads = 0=>threads = 7", "threads = 7=>threads = 2")
    assert said.count("ERROR the configuration is not taken, the agent goes on with the one before: ") == 2
    assert "seven threads\nthreads 1 pi-1" in said
    assert said.endswith("threads 2 pi-1\n")


def test_without_a_configuration_to_read_the_signal_is_left_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGHUP)
    service = Service(tmp_path, Notifier({}))
    assert signal.getsignal(signal.SIGHUP) is before
    settings = AgentConfig("pi-1", "f", tmp_path, tmp_path, BrokerSettings())
    assert service.reloaded(settings, lambda _: None) is None
