"""A network of its own on this machine: a gateway and devices in network namespaces, with links that are slow or cut.

Each device has one link to a bridge in the gateway's namespace, a veth pair shaped at both ends. Nothing of it is seen
from outside: addresses are private, and no interface lies in the namespace that the tests run in.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

GATEWAY = "10.77.0.1"
"""Address of the gateway, where broker and coordinator are."""
TOOLS = {"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux"}
QUEUE = "1s"
"""What a shaped link holds back before it drops packets."""
LEAST_BURST_BYTES = 3200
_BRIDGE = "bridge"
_count = itertools.count()


@dataclass(frozen=True)
class Counted:
    """What passed a device's link so far, IP and Ethernet headers included."""

    bytes_up: int
    bytes_down: int


class Network:
    """Namespaces and their links; `close` removes all of it."""

    def __init__(self) -> None:
        self._base = f"rankfleet-{os.getpid()}-{next(_count)}"
        self._namespaces: list[str] = []
        self._devices: list[str] = []

    def open(self, links_kbit: Mapping[str, int | None]) -> None:
        """Makes the gateway, and a device for each of `links_kbit`; None is a link as fast as the machine."""
        gateway = self._add_namespace("gateway")
        _ip("-n", gateway, "link", "add", _BRIDGE, "type", "bridge")
        _ip("-n", gateway, "address", "add", f"{GATEWAY}/24", "dev", _BRIDGE)
        _ip("-n", gateway, "link", "set", _BRIDGE, "up")
        for device, rate_kbit in links_kbit.items():
            self._add_device(device, rate_kbit)

    def close(self) -> None:
        """Removes every namespace, and with it the interfaces in it."""
        for namespace in reversed(self._namespaces):
            _ip("netns", "delete", namespace)
        self._namespaces.clear()

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(self._namespaces)

    def inside(self, place: str = "gateway") -> tuple[str, ...]:
        """What to put before a command so that it runs at a device, or at the gateway; its process stays the same."""
        return (_path("nsenter"), f"--net=/run/netns/{self._namespace(place)}", "--")

    def cut(self, device: str) -> None:
        """Breaks a device's link: nothing passes, and nobody is told."""
        _ip("-n", self._namespace("gateway"), "link", "set", device, "down")

    def restore(self, device: str) -> None:
        """Mends it."""
        _ip("-n", self._namespace("gateway"), "link", "set", device, "up")

    def shape(self, device: str, rate_kbit: int) -> None:
        """Gives a device's link this rate from now on, each way."""
        burst_bytes = max(LEAST_BURST_BYTES, rate_kbit * 1000 // 8 // 50)
        discipline = ("root", "tbf", "rate", f"{rate_kbit}kbit", "burst", f"{burst_bytes}", "latency", QUEUE)
        _tc("-n", self._namespace(device), "qdisc", "replace", "dev", "uplink", *discipline)
        _tc("-n", self._namespace("gateway"), "qdisc", "replace", "dev", device, *discipline)

    def counted(self, device: str) -> Counted:
        """What the gateway's end of a device's link counted."""
        (link,) = json.loads(_ip("-n", self._namespace("gateway"), "-s", "-j", "link", "show", "dev", device))
        return Counted(bytes_up=link["stats64"]["rx"]["bytes"], bytes_down=link["stats64"]["tx"]["bytes"])

    def shapes(self, device: str) -> list[dict[str, Any]]:
        """The queueing disciplines at both ends of a device's link, as `tc` tells them."""
        near = _tc("-n", self._namespace("gateway"), "-j", "qdisc", "show", "dev", device)
        far = _tc("-n", self._namespace(device), "-j", "qdisc", "show", "dev", "uplink")
        return [*json.loads(near), *json.loads(far)]

    def _add_device(self, device: str, rate_kbit: int | None) -> None:
        gateway, namespace = self._namespace("gateway"), self._add_namespace(device)
        self._devices.append(device)
        _ip("-n", namespace, "link", "add", "uplink", "type", "veth", "peer", "name", device, "netns", gateway)
        _ip("-n", gateway, "link", "set", device, "master", _BRIDGE, "up")
        _ip("-n", namespace, "address", "add", f"10.77.0.{1 + len(self._devices)}/24", "dev", "uplink")
        _ip("-n", namespace, "link", "set", "uplink", "up")
        if rate_kbit is not None:
            self.shape(device, rate_kbit)

    def _add_namespace(self, place: str) -> str:
        namespace = self._namespace(place)
        _ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        return namespace

    def _namespace(self, place: str) -> str:
        return f"{self._base}-{place}"


@contextmanager
def network(links_kbit: Mapping[str, int | None]) -> Iterator[Network]:
    """A gateway and a device for each link, gone at the end; skips the test where this machine allows none of it."""
    missing = _missing()
    if missing:
        pytest.skip(f"NO NETWORK NAMESPACES, so links that are slow or cut are NOT tested: {missing}")
    with _opened(links_kbit) as one:
        yield one


@contextmanager
def _opened(links_kbit: Mapping[str, int | None]) -> Iterator[Network]:
    one = Network()
    try:
        one.open(links_kbit)
        yield one
    finally:
        one.close()


@functools.cache
def _missing() -> str:
    """What this machine lacks, or an empty string."""
    if os.geteuid() != 0:
        return "they need root"
    for tool, package in TOOLS.items():
        if not os.path.exists(_path(tool)):  # noqa: PTH110
            return f"no `{tool}`: sudo apt install {package}"
    try:
        with _opened({"trial": 1000}) as one:
            subprocess.run([*one.inside("trial"), "true"], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return f"`{' '.join(error.cmd)}` failed: {error.stderr.strip()}"
    return ""


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _tc(*arguments: str) -> str:
    return _run("tc", *arguments)


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run([_path(tool), *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def _path(tool: str) -> str:
    return shutil.which(tool) or f"/usr/sbin/{tool}"  # which an ordinary user's PATH lacks on Debian
