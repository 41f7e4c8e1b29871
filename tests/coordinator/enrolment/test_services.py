"""Services that are processes: a real broker, and children that end with us."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from coordinator.enrolment import services
from coordinator.enrolment.broker_config import installed
from coordinator.enrolment.cut import running
from coordinator.enrolment.services import Broker, Child, Rounds, check_free, not_set
from edge_agent.wire.errors import ConfigError, LinkError
from tests.brokers import free_port
from tests.gateways import founded

PATIENCE_S = 20.0
OBSTINATE = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
)


def wait_until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_broker_serves_when_start_returns_and_is_gone_when_stop_does(tmp_path: Path) -> None:
    folder, made = founded(tmp_path, broker_port=free_port())
    broker = Broker(folder, made.settings, installed())
    broker.start()
    process = psutil.Process(running(folder))
    socket.create_connection(("127.0.0.1", made.settings.broker_port), 5).close()
    assert broker.failed() is None
    broker.stop()
    assert not process.is_running()
    assert broker.failed() is None
    broker.stop()


def test_a_broker_that_died_has_failed_and_starts_again(tmp_path: Path) -> None:
    folder, made = founded(tmp_path, broker_port=free_port())
    broker = Broker(folder, made.settings, installed())
    broker.start()
    psutil.Process(running(folder)).kill()
    wait_until(lambda: broker.failed() is not None)
    assert broker.failed() == "it ended with status -9"
    broker.stop()
    broker.start()
    assert broker.failed() is None
    broker.stop()


def test_a_port_that_is_taken_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        folder, made = founded(tmp_path, broker_port=port)
        with pytest.raises(ConfigError, match=rf"port {port} cannot be used: .*another broker_port in fleet\.toml"):
            Broker(folder, made.settings, installed()).start()
    check_free(port, "broker_port")


def test_a_broker_that_cannot_start_says_so_and_leaves_no_process(tmp_path: Path) -> None:
    folder, made = founded(tmp_path, broker_port=free_port())
    folder.server_key.write_text("junk")
    broker = Broker(folder, made.settings, installed())
    with pytest.raises(LinkError, match="the broker ended with status"):
        broker.start()
    assert running(folder) is None


def test_a_child_that_does_not_heed_is_ended_by_force_with_its_children(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "STOP_S", 0.2)
    child = Child(
        (sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {OBSTINATE!r}])")
    )
    child.start()
    wait_until(lambda: "up" in capfd.readouterr().out)
    (grandchild,) = [one for one in psutil.Process().children(recursive=True) if OBSTINATE in one.cmdline()]
    child.stop()
    wait_until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)
    assert child.status() is None


def test_rounds_wait_for_a_pack_and_classes(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    said: list[str] = []
    rounds = Rounds(folder, (sys.executable, "-c", "raise SystemExit(3)"), said.append)
    rounds.start()
    assert len(said) == 1 and said[0].startswith(f"no rounds: set pack and classes in {folder.coordinator_config}")
    assert rounds.failed() is None
    text = folder.coordinator_config.read_text().replace("# pack =", "pack =")
    folder.coordinator_config.write_text(text)
    assert not_set(folder) == ("classes",)
    folder.coordinator_config.write_text(text.replace("# classes =", "classes ="))
    assert not_set(folder) == ()
    rounds.start()
    wait_until(lambda: rounds.failed() is not None)
    assert rounds.failed() == "they ended with status 3"
    rounds.stop()


def test_the_end_of_the_rounds_is_no_failure_and_told_once(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path, pack=tmp_path, classes=("a", "b"))
    said: list[str] = []
    rounds = Rounds(folder, (sys.executable, "-c", ""), said.append)
    rounds.start()
    wait_until(lambda: rounds.failed() is None and bool(said))
    assert rounds.failed() is None
    assert said == ["the rounds are over; the rest of the gateway stays"]
    rounds.stop()


def test_a_malformed_configuration_of_the_rounds_is_named(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    folder.coordinator_config.write_text("fleet = ")
    with pytest.raises(ConfigError, match=r"coordinator\.toml"):
        Rounds(folder, ("true",), print).start()


def test_rounds_that_an_operator_stops_stay_so_until_they_are_started(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path / "fleet", pack=tmp_path, classes=("a", "b"))
    said: list[str] = []
    rounds = Rounds(folder, (sys.executable, "-c", "import time; time.sleep(60)"), said.append)
    assert rounds.standing == "not set"
    rounds.start()
    assert rounds.standing == "running"
    services.order(folder, run=False)
    rounds.stop()
    rounds.start()
    assert (rounds.standing, rounds.failed()) == ("stopped", None)
    assert said == ["no rounds: they were stopped, start them on the page"]
    services.order(folder, run=True)
    services.order(folder, run=True)
    rounds.start()
    assert rounds.standing == "running"
    rounds.stop()


def test_how_rounds_ended_is_told(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path / "fleet", pack=tmp_path, classes=("a", "b"))
    for code, expected in (("", "over"), ("raise SystemExit(3)", "failed")):
        rounds = Rounds(folder, (sys.executable, "-c", code), lambda line: None)
        rounds.start()
        wait_until(lambda: rounds.standing != "running")  # noqa: B023
        assert rounds.standing == expected
        rounds.stop()
