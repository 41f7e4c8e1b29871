"""A gateway as its operator runs it: real processes, TLS, certificates of its own authority."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from coordinator.enrolment import cut
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.founding import opened
from coordinator.enrolment.history import past_rounds
from edge_agent.wire.tls import TlsSettings
from tests.brokers import free_port, require_mosquitto
from tests.certificates import HOST, client_files, now
from tests.gateways import serial_of
from tests.models import tiny_pack
from tests.system.fleet import CLASSES, NAME, NO_VARIABLES, Process, Settings, assert_stops, fleet, wait_until

DEVICES = ("pi-1", "pi-2")
PATIENCE_S = 30.0
ROUNDS = """
[round]
rounds = 3
expected = 2
quorum = 1
grace_s = 60.0

[ranks]
initial = 3
target = 1.0
warmup_rounds = 0
final_rounds = 1

[training]
batch_size = 8
max_tokens = 16
lr_head = 0.02
"""


class Gateway:
    """A folder made by `init`, and its `up`."""

    def __init__(self, root: Path) -> None:
        self.folder = FleetFolder(root / "gateway")
        self.port, self.enrolment_port = free_port(), free_port()
        self._root = root
        self._started: list[Process] = []

    def command(self, *arguments: str, variables: dict[str, str] | None = None) -> Process:
        line = [sys.executable, "-m", "deploy.cli.main", "coordinator", *arguments]
        log = self._root / f"{arguments[0]}.{len(self._started)}.log"
        self._started.append(Process(line, arguments[0], log, variables or NO_VARIABLES))
        return self._started[-1]

    def init(self, *more: str) -> None:
        ports = ("--broker-port", str(self.port), "--enrolment-port", str(self.enrolment_port))
        ports = (*ports, "--web-port", str(free_port()))
        asked = ("--fleet", NAME, "--host", HOST, *ports, *more)
        assert self.command("init", str(self.folder.root), *asked).wait() == 0

    def up(self, **variables: str) -> Process:
        started = self.command("up", str(self.folder.root), variables=variables)
        wait_until(
            lambda: self.broker() is not None or not started.running,
            PATIENCE_S,
            lambda: f"no broker: {started.lines} {started.stderr}",
        )
        return started

    def broker(self) -> psutil.Process | None:
        number = cut.running(self.folder)
        return None if number is None else psutil.Process(number)

    def stop(self) -> None:
        for process in self._started:
            if process.running:
                process.terminate()
                process.wait()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    require_mosquitto()
    one = Gateway(tmp_path)
    try:
        yield one
    finally:
        one.stop()


def enrolled(gateway: Gateway, root: Path) -> Settings:
    """Agents with certificates, as enrolment would leave them on their boards."""
    _, authority = opened(gateway.folder)
    brokers: dict[str, dict[str, Any]] = {}
    for name in DEVICES:
        tls = client_files(root / "identities" / name, authority, name)
        brokers[name] = {key: str(getattr(tls, key)) for key in ("ca_file", "certificate_file", "key_file")}
    return Settings(devices=DEVICES, port=gateway.port, brokers=brokers)


def configured(gateway: Gateway) -> None:
    """With a pack, classes and the operator's edits."""
    gateway.init("--pack", str(tiny_pack()), "--classes", *CLASSES)
    config = gateway.folder.coordinator_config
    config.write_text(config.read_text().partition("[round]")[0] + ROUNDS)


def says(process: Process, text: str) -> None:
    wait_until(
        lambda: any(text in line for line in process.lines),
        120.0,
        lambda: f"it never said {text!r}: {process.lines} {process.stderr[-3000:]}",
    )


def test_a_whole_run_over_tls_ends_well_and_the_gateway_stays(gateway: Gateway, tmp_path: Path) -> None:
    configured(gateway)
    up = gateway.up()
    with fleet(tmp_path / "boards", enrolled(gateway, tmp_path)) as boards:
        agents = boards.start_agents()
        for agent in agents.values():
            assert agent.wait() == 0, agent.stderr[-3000:]
            assert "Traceback" not in agent.stderr
    says(up, "the rounds are over")
    assert gateway.broker() is not None and up.running
    assert past_rounds(gateway.folder.root / "run", "pi-1") == (1, 2, 3)
    assert_stops(up, Process.terminate)
    assert gateway.broker() is None


def test_a_device_that_is_revoked_in_a_round_is_cut_and_the_run_ends_without_it(
    gateway: Gateway, tmp_path: Path
) -> None:
    configured(gateway)
    up = gateway.up()
    settings = enrolled(gateway, tmp_path)
    with fleet(tmp_path / "boards", settings) as boards:
        thief, honest = boards.start_agent("pi-2"), boards.start_agent("pi-1")
        says(up, "round 1")
        _, authority = opened(gateway.folder)
        revocations = cut.Revocations(frozenset({serial_of(_files(settings, "pi-2"))}), frozenset({"pi-2"}))
        assert cut.cut(gateway.folder, authority, "pi-2", revocations, now()) is cut.Outcome.CUT
        thief.says("our certificate is revoked")
        assert honest.wait() == 0, honest.stderr[-3000:]
        says(up, "the rounds are over")
        assert thief.running, "it goes on trying: it may be enrolled again"
        assert_stops(thief, Process.terminate)
    assert past_rounds(gateway.folder.root / "run", "pi-1") == (1, 2, 3)
    assert past_rounds(gateway.folder.root / "run", "pi-2") == ()


def _files(settings: Settings, name: str) -> TlsSettings:
    return TlsSettings(**{key: Path(path) for key, path in settings.brokers[name].items()})


def test_without_a_pack_it_serves_without_rounds_and_says_so(gateway: Gateway) -> None:
    gateway.init()
    up = gateway.up()
    says(up, f"no rounds: set pack and classes in {gateway.folder.coordinator_config}")
    assert up.running
    assert_stops(up, Process.press_ctrl_c)
    assert gateway.broker() is None


def test_a_second_one_says_that_the_folder_is_in_use(gateway: Gateway) -> None:
    gateway.init()
    up = gateway.up()
    second = gateway.command("up", str(gateway.folder.root))
    assert second.wait() == 1
    assert "another gateway is running in" in second.error
    assert up.running and gateway.broker() is not None


def test_a_broker_that_dies_is_back_soon(gateway: Gateway) -> None:
    gateway.init()
    up = gateway.up()
    says(up, "no rounds")
    first = gateway.broker()
    assert first is not None
    first.kill()
    says(up, "broker: it ended with status -9; it is started again in 1 s")
    wait_until(lambda: gateway.broker() not in (None, first), PATIENCE_S, lambda: up.stderr)


def test_nothing_outlives_a_gateway_that_is_killed(gateway: Gateway) -> None:
    configured(gateway)
    up = gateway.up()
    wait_until(lambda: len(up.children()) >= 2, PATIENCE_S, lambda: f"{up.lines} {up.stderr}")
    children = up.children()
    up.kill()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
    again = gateway.up()
    assert again.running


def test_a_port_that_is_taken_ends_it_with_the_setting_to_change(gateway: Gateway) -> None:
    gateway.init()
    with socket.create_server(("", gateway.port)):
        up = gateway.command("up", str(gateway.folder.root))
        assert up.wait() == 1
    assert f"port {gateway.port} cannot be used" in up.error and "broker_port" in up.error


def test_systemd_is_told_when_the_broker_listens(gateway: Gateway, tmp_path: Path) -> None:
    gateway.init()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        up = gateway.up(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert systemd.recv(100) == b"READY=1"
        socket.create_connection((HOST, gateway.port), 5).close()
        assert_stops(up, Process.terminate)
        assert systemd.recv(100) == b"STOPPING=1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_root_starts_runs_as_the_folders_owner() -> None:
    """In a folder that others can reach, which those of pytest are not."""
    require_mosquitto()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        one = Gateway(root)
        one.folder.root.mkdir()
        os.chown(one.folder.root, 65534, 65534)
        try:
            one.init()
            up = one.up()
            broker = one.broker()
            assert broker is not None, up.stderr
            assert {broker.username(), psutil.Process(up.pid).username()} == {"nobody"}
            assert all(path.stat().st_uid == 65534 for path in one.folder.root.rglob("*"))
        finally:
            one.stop()
