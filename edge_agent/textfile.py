"""The agent's metrics in a file for node_exporter's textfile collector, replaced as a whole every quarter of a minute.

docs/metrics.md lists them. The file is for every user to read, since the collector runs as another one: it says nothing
of the data but how many examples there are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from edge_agent import session
from edge_agent.meter import Account
from edge_agent.wire import messages as m
from edge_agent.wire.exposition import Family, text

LOGGER = logging.getLogger("rankfleet.agent")
WRITE_EVERY_S = 15.0
_MODE = 0o644


class Textfile:
    """`path` is the file, None where there is to be none. Where it cannot be written that is logged once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._due_s = 0.0
        self._failed = False

    def look(self, state: session.State, account: Account, now_s: float) -> None:
        """Writes the file if it is time to; `now_s` is of a monotonic clock."""
        if self._path is None or now_s < self._due_s:
            return
        self._due_s = now_s + WRITE_EVERY_S
        try:
            _replace(self._path, text(families(state, account)))
        except OSError as error:
            if not self._failed:
                LOGGER.warning("metrics_file cannot be written, the agent goes on without: %s", error)
            self._failed = True
        else:
            self._failed = False


def families(state: session.State, account: Account) -> Iterator[Family]:
    """Every metric of the agent; what is not known has no sample."""
    fleet = "" if state.welcome is None else state.welcome.fleet
    info = Family("rankfleet_agent_info", "gauge", "The agent's version, and its fleet once it has joined.")
    yield info.add(1, version=state.agent_version, fleet=fleet)
    yield Family("rankfleet_agent_connected", "gauge", "Whether it is connected to the broker.").add(state.online)
    phases = Family("rankfleet_agent_phase", "gauge", "What it is doing: 1 for one of the phases, 0 for the others.")
    for phase in session.Phase:
        phases.add(state.phase is phase, phase=phase.value)
    yield phases
    plan = state.work if isinstance(state.work, m.Plan) else None
    number = Family("rankfleet_agent_round", "gauge", "The round that it works on.")
    yield number.add(None if plan is None else plan.round)
    yield Family("rankfleet_agent_model_version", "gauge", "Version of the model on its disk.").add(state.version)
    ready = state.ready
    budget = Family("rankfleet_agent_memory_budget_bytes", "gauge", "Memory that it may use.")
    yield budget.add(None if ready is None else ready.capability.budget_bytes)
    yield Family("rankfleet_agent_examples", "gauge", "Local examples.").add(None if ready is None else ready.examples)
    waiting = Family("rankfleet_agent_outbox_bytes", "gauge", "The update that waits to be sent, 0 where none does.")
    yield waiting.add(0 if state.offer is None else state.offer.update.size_bytes)
    sent = Family("rankfleet_agent_sent_bytes_total", "counter", "On the socket, without the pack.")
    yield sent.add(account.bytes_up)
    received = Family("rankfleet_agent_received_bytes_total", "counter", "On the socket, without the pack.")
    yield received.add(account.bytes_down)
    pack = Family("rankfleet_agent_pack_received_bytes_total", "counter", "On the socket, for the pack.")
    yield pack.add(account.pack_bytes_down)


def _replace(path: Path, body: bytes) -> None:
    """The collector reads `*.prom` alone, so that it never sees the part."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(body)
        part.chmod(_MODE)  # whatever the umask
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
