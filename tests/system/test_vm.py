"""The agent as a service in a virtual machine: a real systemd, real control groups, a real reboot.

The gateway runs on this machine, the board is the virtual one, and joins by the line that the gateway prints. The tests
follow each other on one machine.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from coordinator.enrolment.history import past_rounds
from deploy.board import units
from tests.agents import write_capability
from tests.system import vm
from tests.system.boards import CONFIG, DEVICE, Command, Gateway, approve, paste, serving, show
from tests.system.fleet import BUDGET_BYTES, toy_rows, write_rows
from tests.system.vm import HOST, Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ROUNDS = 10_000
PATIENCE_S = 400.0
UNIT, DATA = units.AGENT, "/var/lib/rankfleet/data/texts.jsonl"
PYTHON = "3.11"
"""Of the machine's Debian."""
HOLDOUT, OTHER_HOLDOUT = 0.15, 0.25
TOO_LITTLE_BYTES = 36 * 2**20
"""More anonymous memory than the supervisor has, less than a trainer needs."""
READ_BY_US = (
    f"systemctl stop {UNIT}; sync; echo 3 > /proc/sys/vm/drop_caches; "
    "/opt/rankfleet/current/bin/python -c 'import deploy.cli.main, edge_agent.agent, edge_agent.trainer_process, "
    f"edge_agent.engine.onnx_engine, edge_agent.tokenise' && systemctl start {UNIT}"
)
"""Pages of programs and libraries are charged to who reads them first. If that were the agent, the kernel would take
these back and have them read again for minutes before anything is killed."""
WATCHDOG_S = 10
SUPERVISOR_BYTES = 30 * 10**6


@dataclass
class Board:
    """The virtual machine, and the gateway on this one."""

    machine: Machine
    gateway: Gateway

    def property(self, name: str) -> str:
        """Of the agent's unit, as systemd tells it."""
        return self.machine.says(f"systemctl show --value -p {name} {UNIT}")

    def journal(self) -> str:
        return self.machine.says(f"journalctl -b --no-pager -o cat _SYSTEMD_UNIT={UNIT} + UNIT={UNIT}")

    def closed(self) -> int:
        """How many rounds have closed with an update of the board."""
        return len(past_rounds(self.gateway.folder.root / "run", DEVICE))

    def trains(self, rounds: int = 1) -> None:
        """Waits for so many more rounds."""
        before = self.closed()
        self.wait(lambda: self.closed() >= before + rounds)

    def logs(self, words: str, times: int = 1) -> None:
        self.wait(lambda: self.journal().count(words) >= times)

    def wait(self, true: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline_s, f"{self.journal()[-4000:]}\n{self.gateway.up.lines[-20:]}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    vm.require_machine()
    folder = tmp_path_factory.mktemp("vm")
    vm.unpack(folder)
    machine = Machine.of(folder)
    with serving(folder, HOST, ROUNDS) as gateway:
        gateway.bundle(folder / "bundles", "x86_64", PYTHON)
        try:
            machine.start()
            install(machine, gateway)
            yield Board(machine, gateway)
        finally:
            machine.stop()


def install(machine: Machine, gateway: Gateway) -> None:
    """As a technician does it: pastes the line, is approved, puts texts there."""

    def start(line: str) -> Command:
        show(f"# {line}")
        return Command(machine.shell(f"cd && {line}"), dict(os.environ))

    said = approve(gateway, paste(start, gateway, f"--budget-mib {BUDGET_BYTES // 2**20}"))
    assert "is installed" in said and "nothing is started" not in said
    # Measuring takes minutes in an emulated machine.
    record = write_capability(machine.folder / "capability.json", DEVICE)
    machine.says("cat > /etc/rankfleet/capability.json", given=record.read_text())
    machine.says(f"sed -i '1i holdout_share = {HOLDOUT}\\ncapability = \"capability.json\"' {CONFIG}")
    texts = machine.folder / "texts.jsonl"
    write_rows(texts, toy_rows(0))
    machine.says(f"cat > {DATA}; chown rankfleet:rankfleet {DATA}; chmod 0640 {DATA}", given=texts.read_text())
    machine.says(f"systemctl restart {UNIT}")


def test_the_unit_starts_by_itself_and_the_agent_trains(board: Board) -> None:
    board.trains()
    assert board.property("ActiveState") == "active"
    assert board.property("NRestarts") == "0"
    assert board.property("StatusText") in ("training", "idle", "offering", "catching_up")
    high, top = re.findall(r"=(\d+)", units.limits(BUDGET_BYTES))
    group = f"/sys/fs/cgroup/system.slice/{UNIT}"
    assert board.machine.says(f"cat {group}/memory.high {group}/memory.max").split() == [high, top]
    assert board.machine.says(f"ps -o user= -p {board.property('MainPID')}") == "rankfleet"


def test_systemd_finds_the_unit_hardened(board: Board) -> None:
    said = board.machine.says(f"systemd-analyze security {UNIT} --no-pager | tail -1")
    found = re.search(r"(\d+\.\d)", said)
    assert found is not None and float(found[1]) <= 2.0, said


def test_the_doctor_finds_nothing_in_the_way_as_root_and_as_the_agents_user(board: Board) -> None:
    for user in ("root", "rankfleet"):
        done = board.machine.ask(
            f"setpriv --reuid={user} --regid={user} --init-groups rankfleet agent doctor {CONFIG} --json"
        )
        findings = {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}
        assert done.returncode == 0, (
            user,
            [one for one in findings.values() if one["level"] == "failure"],
            done.stderr,
        )
        assert findings["engine"]["level"] == findings["memory control group"]["level"] == "ok"
    assert board.property("NRestarts") == "0"


def test_a_reload_takes_a_changed_file_and_refuses_a_broken_one(board: Board) -> None:
    pid = board.property("MainPID")
    board.machine.says(f"sed -i 's/{HOLDOUT}/{OTHER_HOLDOUT}/' {CONFIG} && systemctl reload {UNIT}")
    board.logs("the configuration was read again; changed: holdout_share")
    board.logs("-> measuring", times=2)
    board.machine.says(f"cp -p {CONFIG} {CONFIG}.good && echo nonsense >> {CONFIG} && systemctl reload {UNIT}")
    board.logs("the configuration is not taken, the agent goes on with the one before")
    board.machine.says(f"mv {CONFIG}.good {CONFIG}")
    board.trains()
    assert (board.property("ActiveState"), board.property("MainPID")) == ("active", pid)


def test_a_trainer_that_runs_into_its_limit_dies_and_the_agent_goes_on(board: Board) -> None:
    board.machine.says(READ_BY_US)
    board.trains()
    pid, killed = board.property("MainPID"), "was killed by signal 9"
    board.machine.says(f"systemctl set-property --runtime {UNIT} MemoryHigh=infinity MemoryMax={TOO_LITTLE_BYTES}")
    board.logs(killed, times=4)  # the same job starts again three times
    board.wait(lambda: any(killed in line for line in board.gateway.up.lines))
    assert (board.property("ActiveState"), board.property("MainPID")) == ("active", pid)
    events_ = board.machine.says(f"cat /sys/fs/cgroup/system.slice/{UNIT}/memory.events")
    assert int(dict(line.split() for line in events_.splitlines())["oom_kill"]) >= 4
    high, top = re.findall(r"=(\d+)", units.limits(BUDGET_BYTES))
    board.machine.says(f"systemctl set-property --runtime {UNIT} MemoryHigh={high} MemoryMax={top}")
    board.trains()
    assert board.property("MainPID") == pid


def test_a_supervisor_that_hangs_is_restarted_and_trains_again(board: Board) -> None:
    folder, lines = f"/run/systemd/system/{UNIT}.d", f"[Service]\\nWatchdogSec={WATCHDOG_S}\\nRestartSec=1\\n"
    board.machine.says(f"mkdir -p {folder} && printf '{lines}' > {folder}/watchdog.conf")
    board.machine.says(f"systemctl daemon-reload && systemctl restart {UNIT}")
    board.trains()
    pid, restarts = board.property("MainPID"), int(board.property("NRestarts"))
    time.sleep(2 * WATCHDOG_S)
    assert board.property("MainPID") == pid, "a loop that turns is left alone"
    board.machine.says(f"kill -STOP {pid}")
    board.wait(lambda: int(board.property("NRestarts")) == restarts + 1)
    board.logs("Watchdog timeout")
    board.trains()
    assert board.property("MainPID") != pid


def test_a_board_that_is_restarted_goes_on_by_itself(board: Board) -> None:
    board.machine.reboot()
    board.trains(2)  # the first may close with what was trained before
    assert board.property("ActiveState") == "active"


def test_an_idle_supervisor_is_small_with_the_systems_own_python(board: Board) -> None:
    board.gateway.operator("pause")
    pid = board.property("MainPID")
    board.wait(lambda: not board.machine.ask(f"pgrep -P {pid}").stdout.strip())
    time.sleep(2.0)
    rss_bytes = int(board.machine.says(f"ps -o rss= -p {pid}")) * 1024
    assert rss_bytes <= SUPERVISOR_BYTES
