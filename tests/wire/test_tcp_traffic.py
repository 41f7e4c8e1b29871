from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from edge_agent.wire import tcp_traffic
from edge_agent.wire.link import Traffic
from edge_agent.wire.tcp_traffic import TcpTraffic

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT ON LINUX, so the kernel's counters are NOT tested")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        far, _ = server.accept()
        with far:
            yield near, far


def exchange(near: socket.socket, far: socket.socket) -> None:
    near.sendall(bytes(1000))
    far.recv(1000, socket.MSG_WAITALL)
    far.sendall(bytes(70))
    near.recv(70, socket.MSG_WAITALL)


def test_the_kernel_counts_every_byte_and_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    exchange(*pair)
    assert tcp_traffic.tcp_traffic(pair[0]) == Traffic(1000, 70)


def test_connections_add_up(pair: tuple[socket.socket, socket.socket]) -> None:
    traffic = TcpTraffic()
    assert traffic.total() == Traffic(0, 0)
    traffic.opened(pair[0])
    exchange(*pair)
    assert traffic.total() == Traffic(1000, 70)
    traffic.closing()
    assert traffic.total() == Traffic(1000, 70)
    traffic.opened(pair[0])
    assert traffic.total() == Traffic(2000, 140)


def test_what_the_system_does_not_tell_is_none_and_never_zero(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = TcpTraffic()
    traffic.opened(pair[0])
    monkeypatch.setattr(sys, "platform", "darwin")
    assert traffic.total() is None
    traffic.closing()
    monkeypatch.undo()
    assert traffic.total() is None


def test_a_socket_without_counters_gives_none() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert tcp_traffic.tcp_traffic(datagrams) is None
