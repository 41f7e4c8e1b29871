"""The agent as its unit runs it, without a broker; with one it runs in the virtual machine and in `profile idle`."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.brokers import free_port

WAIT_S = 60.0


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)


def test_what_is_no_configuration_with_options_of_the_log_is_refused() -> None:
    for arguments in ((), ("--help",), ("a", "b"), ("a", "json", "loud"), ("a", "json", "info", "more")):
        done = python(*arguments)
        assert (done.returncode, "usage:" in done.stderr) == (2, True)


def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    done = python(str(tmp_path / "none.toml"))
    assert done.returncode == 1 and "none.toml" in done.stderr


def test_it_is_ready_without_a_broker_reads_its_file_again_and_stops_in_order(tmp_path: Path) -> None:
    config, address = tmp_path / "agent.toml", tmp_path / "notify"
    text = (
        f'device = "pi-1"\nfleet = "f"\ndata = "a"\nstate_dir = "state"\nthreads = 1\n[broker]\nport = {free_port()}\n'
    )
    config.write_text(text)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(WAIT_S)

        def hear(words: str) -> None:
            while words not in manager.recv(999).decode():
                pass

        with subprocess.Popen(
            [sys.executable, "-m", "edge_agent", str(config)],
            env={
                "NOTIFY_SOCKET": str(address),
                "WATCHDOG_USEC": "2000000",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as agent:
            hear("READY=1")
            hear("WATCHDOG=1")
            config.write_text(text.replace("threads = 1", "threads = 2"))
            agent.send_signal(signal.SIGHUP)
            hear("RELOADING=1")
            hear("READY=1")
            agent.terminate()
            hear("STOPPING=1")
            assert agent.stderr is not None
            said = agent.stderr.read()
    assert agent.returncode == 130
    assert "the configuration was read again; changed: threads" in said and "Traceback" not in said
