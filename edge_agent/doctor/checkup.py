"""All checks of one agent's board, in the order in which a person would mend what they find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import edge_agent
from edge_agent.config import AgentConfig
from edge_agent.doctor import board, clock, kernel, service
from edge_agent.doctor.finding import Finding


def checkup(settings: AgentConfig, root: Path = Path("/")) -> Iterator[Finding]:
    """Findings as they are made; `root` is where the system's own files are."""
    yield board.board(root)
    yield board.system(root)
    yield board.page_size(os.sysconf("SC_PAGE_SIZE"))
    yield kernel.memory_groups(root)
    yield kernel.pressure(root)
    yield kernel.swap(root)
    yield kernel.power(root)
    yield kernel.heat(root)
    yield clock.clock(root, (Path(edge_agent.__file__), *service.folders(settings)))
    yield service.disk(settings)
    yield service.budget(settings)
    yield service.data(settings)
    yield service.engine(settings)
    yield service.broker(settings)
