from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.network import namespaces
from tests.network.namespaces import GATEWAY, Network, network

PORT = 5000
SOURCE = f"""
import socket, threading
def pour(connection):
    while True:
        connection.sendall(bytes(4096))
server = socket.create_server(("{GATEWAY}", {PORT}))
print("listens", flush=True)
while True:
    threading.Thread(target=pour, args=server.accept()[:1], daemon=True).start()
"""
DRINK = f"""
import socket, sys
connection = socket.create_connection(("{GATEWAY}", {PORT}), timeout=60)
print("drinks", flush=True)
left = int(sys.argv[1])
while left > 0:
    left -= len(connection.recv(min(left, 4096)))
"""
REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)
except OSError:
    sys.exit(9)
"""


@pytest.fixture
def net() -> Iterator[Network]:
    with network({"slow": 64, "fast": 10_000, "plain": None}) as one:
        yield one


@pytest.fixture
def source(net: Network) -> Iterator[None]:
    """Pours bytes at the gateway for whoever connects."""
    command = [*net.inside(), sys.executable, "-c", SOURCE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None and process.stdout.readline() == b"listens\n"
        yield
        process.kill()


def reaches(net: Network, device: str, address: str, port: int = PORT) -> bool:
    command = [*net.inside(device), sys.executable, "-c", REACH, address, str(port)]
    return subprocess.run(command, check=False).returncode == 0


def test_links_have_the_rates_that_were_asked_for_at_both_ends(net: Network) -> None:
    for device, rate_kbit in (("slow", 64), ("fast", 10_000)):
        shapes = net.shapes(device)
        assert [(shape["kind"], shape["options"]["rate"]) for shape in shapes] == [("tbf", rate_kbit * 125)] * 2
    assert "tbf" not in {shape["kind"] for shape in net.shapes("plain")}


@pytest.mark.usefixtures("source")
def test_a_fast_link_carries_more_in_the_same_time(net: Network) -> None:
    commands = [[*net.inside(device), sys.executable, "-c", DRINK] for device in ("slow", "fast")]
    with subprocess.Popen([*commands[0], "100000000"], stdout=subprocess.PIPE) as slow:
        assert slow.stdout is not None and slow.stdout.readline() == b"drinks\n"
        before = net.counted("slow")
        subprocess.run([*commands[1], "1000000"], check=True, stdout=subprocess.DEVNULL)
        behind = net.counted("slow")
        slow.kill()
    assert net.counted("fast").bytes_down > 1_000_000
    assert behind.bytes_down - before.bytes_down < 200_000


@pytest.mark.usefixtures("source")
def test_a_link_that_is_cut_carries_nothing_until_it_is_restored(net: Network) -> None:
    assert reaches(net, "plain", GATEWAY)
    net.cut("plain")
    assert not reaches(net, "plain", GATEWAY)
    assert reaches(net, "fast", GATEWAY), "the others do not notice"
    net.restore("plain")
    assert reaches(net, "plain", GATEWAY)


def test_nothing_of_it_is_seen_from_outside_and_nothing_outside_from_it() -> None:
    interfaces = socket.if_nameindex()
    with network({"plain": None}) as net:
        assert socket.if_nameindex() == interfaces
        routes = subprocess.run([*net.inside("plain"), "ip", "route"], check=True, capture_output=True, text=True)
    assert [line.split()[0] for line in routes.stdout.splitlines()] == ["10.77.0.0/24"]


def test_everything_is_removed_even_where_a_test_fails() -> None:
    with pytest.raises(ZeroDivisionError), network({"one": 64}) as net:
        made = net.namespaces
        raise ZeroDivisionError
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert len(made) == 2
    assert not any(namespace in listed for namespace in made)


def test_a_machine_that_lacks_something_is_skipped_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    namespaces._missing.cache_clear()
    try:
        with pytest.raises(pytest.skip.Exception, match="NOT tested: they need root"), network({}):
            pass
        monkeypatch.undo()
        monkeypatch.setitem(namespaces.TOOLS, "no-such-tool", "some-package")
        monkeypatch.setattr(namespaces.os, "geteuid", lambda: 0)
        namespaces._missing.cache_clear()
        with (
            pytest.raises(pytest.skip.Exception, match="no `no-such-tool`: sudo apt install some-package"),
            network({}),
        ):
            pass
    finally:
        namespaces._missing.cache_clear()
