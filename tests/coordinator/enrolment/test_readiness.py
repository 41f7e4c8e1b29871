"""What systemd is told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from coordinator.enrolment.readiness import tell


@pytest.mark.parametrize("abstract", [False, True])
def test_the_state_goes_to_the_socket_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"rankfleet-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        tell("READY=1")
        systemd.settimeout(5)
        assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell("READY=1")
