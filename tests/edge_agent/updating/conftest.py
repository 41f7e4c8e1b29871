"""A gateway in a thread, and a board that is enrolled there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.updating import settings
from edge_agent.updating.settings import UpdaterConfig
from tests.update_gateway import UpdateGateway


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[UpdateGateway]:
    gateway = UpdateGateway(tmp_path / "fleet")
    yield gateway
    gateway.close()


@pytest.fixture
def config(fleet: UpdateGateway, tmp_path: Path) -> UpdaterConfig:
    (tmp_path / "state").mkdir()
    return settings.load(fleet.configure("a", tmp_path / "etc", tmp_path / "state"))
