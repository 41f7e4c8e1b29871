"""Against a socket as the service manager has it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.service.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(5.0)
        yield heard


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(manager.getsockname()), "HOME": "/", **more}


def test_what_is_told_is_one_datagram_of_lines(manager: socket.socket) -> None:
    Notifier(environment(manager)).tell(READY="1", STATUS="waiting for the broker")
    assert manager.recv(999) == b"READY=1\nSTATUS=waiting for the broker"


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0rankfleet-test-{os.getpid()}")
        heard.settimeout(5.0)
        Notifier({"NOTIFY_SOCKET": f"@rankfleet-test-{os.getpid()}"}).tell(READY="1")
        assert heard.recv(999) == b"READY=1"


def test_a_child_process_does_not_speak_for_its_parent(manager: socket.socket) -> None:
    variables = environment(manager, WATCHDOG_USEC="2000000", WATCHDOG_PID=str(os.getpid()))
    Notifier(variables)
    assert variables == {"HOME": "/"}


def test_the_watchdog_is_fed_well_within_its_time_and_no_more_often(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager, WATCHDOG_USEC="20000000"))
    assert notifier.watchdog_s == 20.0
    for now_s in (100.0, 101.0, 104.9, 105.0, 109.9, 110.0):
        notifier.feed(now_s)
    manager.setblocking(False)
    heard = []
    while True:
        try:
            heard.append(manager.recv(999))
        except BlockingIOError:
            break
    assert heard == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize("variables", [{}, {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}])
def test_a_watchdog_of_nobody_or_of_another_process_is_not_fed(
    manager: socket.socket, variables: dict[str, str]
) -> None:
    notifier = Notifier(environment(manager, **variables))
    notifier.feed(1.0)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(999)


def test_without_a_manager_nothing_is_sent_and_one_that_is_gone_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Notifier({}).tell(READY="1")
        assert not caplog.records
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).tell(READY="1")
    assert "does not listen" in caplog.text


def test_a_reload_carries_the_time(manager: socket.socket) -> None:
    Notifier(environment(manager)).reloading()
    first, second = manager.recv(999).decode().splitlines()
    assert first == "RELOADING=1" and second.removeprefix("MONOTONIC_USEC=").isdigit()
