from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.network.proxy import Faults, Proxy, proxy

PATIENCE_S = 20.0
DATA = bytes(range(256)) * 100


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends everything back."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while piece := connection.recv(4096):
                connection.sendall(piece)
        except OSError:
            return


def connect(one: Proxy) -> socket.socket:
    return socket.create_connection((one.host, one.port), timeout=PATIENCE_S)


def answers(connection: socket.socket, data: bytes = b"hello") -> bytes:
    connection.sendall(data)
    return receive(connection, len(data))


def receive(connection: socket.socket, size_bytes: int) -> bytes:
    """So many bytes, or what came before the connection ended."""
    came = b""
    while len(came) < size_bytes and (piece := connection.recv(size_bytes - len(came))):
        came += piece
    return came


def ends(connection: socket.socket) -> bool:
    """Whether the connection ended; False if it only says nothing."""
    connection.settimeout(0.3)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def echoed_bytes(echo: tuple[str, int], faults: Faults, seed: int) -> list[int]:
    """How many bytes came back over each of some connections until it was dropped."""
    counts = []
    with proxy(echo, faults, seed=seed) as one:
        for _ in range(4):
            with connect(one) as connection:
                counts.append(0)
                try:
                    while answers(connection, bytes(100)) == bytes(100):
                        counts[-1] += 100
                except OSError:
                    pass
    return counts


def test_without_faults_everything_comes_back(echo: tuple[str, int]) -> None:
    with proxy(echo) as one, connect(one) as connection:
        assert answers(connection, DATA) == DATA
        assert (one.connections, one.bytes_up, one.bytes_down) == (1, len(DATA), len(DATA))


def test_the_end_of_one_side_is_that_of_the_other(echo: tuple[str, int]) -> None:
    with proxy(echo) as one, connect(one) as connection:
        answers(connection)
        connection.shutdown(socket.SHUT_WR)
        assert ends(connection)


def test_delays_keep_the_order(echo: tuple[str, int]) -> None:
    with proxy(echo, Faults(delay_s=(0.0, 0.01)), seed=1) as one, connect(one) as connection:
        assert answers(connection, DATA) == DATA


def test_a_slower_connection_carries_less_in_the_same_time(echo: tuple[str, int]) -> None:
    with ExitStack() as stack:
        slow, fast = (stack.enter_context(proxy(echo, Faults(rate_bytes_per_s=rate))) for rate in (20_000, 200_000))
        behind, ahead = (stack.enter_context(connect(one)) for one in (slow, fast))
        for connection in (behind, ahead):
            threading.Thread(target=connection.sendall, args=(DATA * 4,), daemon=True).start()
        assert len(receive(ahead, 100_000)) == 100_000
        assert 0 < slow.bytes_down < fast.bytes_down / 2


def test_connections_are_dropped_after_some_bytes_the_same_for_the_same_seed(echo: tuple[str, int]) -> None:
    faults = Faults(drop_after_bytes=(1000, 20_000))
    counts = echoed_bytes(echo, faults, seed=5)
    assert counts == echoed_bytes(echo, faults, seed=5)
    assert len(set(counts)) > 1
    assert all(400 <= count <= 10_000 for count in counts)
    assert counts != echoed_bytes(echo, faults, seed=6)


def test_connections_are_dropped_after_some_time(echo: tuple[str, int]) -> None:
    with proxy(echo, Faults(drop_after_s=(0.5, 0.6))) as one, connect(one) as connection:
        assert answers(connection) == b"hello"
        assert connection.recv(1) == b""


@pytest.mark.parametrize(("up", "down"), [(True, False), (False, True), (True, True)])
def test_a_frozen_connection_is_half_open_and_a_new_one_is_well(echo: tuple[str, int], up: bool, down: bool) -> None:
    with proxy(echo) as one, connect(one) as connection:
        assert answers(connection) == b"hello"
        before = one.bytes_up
        one.freeze(up=up, down=down)
        connection.sendall(b"lost")
        assert not ends(connection)
        _wait_until(lambda: up or one.bytes_up == before + 4)
        assert one.bytes_up == before + (0 if up else 4)
        with connect(one) as new:
            assert answers(new) == b"hello"


def test_a_cut_ends_what_is_open_and_new_connections_are_taken(echo: tuple[str, int]) -> None:
    with proxy(echo) as one, connect(one) as connection:
        answers(connection)
        one.cut()
        assert ends(connection)
        with connect(one) as new:
            assert answers(new) == b"hello"


def test_a_target_that_is_not_there_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()
    with proxy(nobody) as one, connect(one) as connection:
        assert ends(connection)


def test_nothing_is_left_of_a_closed_proxy(echo: tuple[str, int]) -> None:
    with proxy(echo) as one:
        connection = connect(one)
        answers(connection)
    assert ends(connection)
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        connect(one)
    assert "proxy" not in {thread.name for thread in threading.enumerate()}


def _wait_until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < deadline_s:
        time.sleep(0.01)
