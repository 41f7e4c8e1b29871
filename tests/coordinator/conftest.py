"""A real coordinator in a thread, and three scripted devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator import farewell, server
from coordinator.config import CoordinatorConfig
from edge_agent.wire.memory_link import MemoryBroker
from tests.coordinator.devices import NAMES
from tests.scripted import (
    Device,
    Gateway,
    make_config,
)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def devices(broker: MemoryBroker) -> dict[str, Device]:
    return {name: Device(broker, name) for name in NAMES}


@pytest.fixture
def config(tmp_path: Path) -> CoordinatorConfig:
    return make_config(tmp_path)


@pytest.fixture
def start(broker: MemoryBroker, config: CoordinatorConfig) -> Iterator[Callable[..., Gateway]]:
    """Starts a coordinator; one that still runs at the end of the test is stopped."""
    started: list[Gateway] = []

    def make(changed: CoordinatorConfig = config, **options: Any) -> Gateway:
        started.append(Gateway(broker, changed, **options))
        return started[-1]

    yield make
    for gateway in started:
        gateway._link.broken.set()
        gateway.join()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody answered is said again at once, and nobody is waited for at the end."""
    monkeypatch.setattr(server, "REPEAT_S", 0.05)
    monkeypatch.setattr(farewell, "LEAVE_S", 0.2)
