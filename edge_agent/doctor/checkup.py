"""All checks of one agent's board, in the order in which a person would mend what they find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import edge_agent
from edge_agent.config import AgentConfig
from edge_agent.doctor import board, broker, certificates, clock, kernel, privacy, service, unit
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
    now_s, bound_s = clock.present_s(), _bound_s(settings)
    yield clock.clock(root, bound_s, now_s)
    yield certificates.certificates(settings.broker, now_s, bound_s)
    yield service.disk(settings)
    yield service.budget(settings)
    yield service.data(settings)
    yield privacy.privacy(settings)
    yield service.engine(settings)
    yield broker.broker(settings)
    yield unit.unit(root, settings.memory.budget_bytes)


def _bound_s(settings: AgentConfig) -> float:
    certificate = settings.broker.certificate_file
    written = (Path(edge_agent.__file__), *service.folders(settings))
    return clock.bound_s(written, None if certificate is None else certificate.parent)
