"""What the agent's shell tells its recorder, if it has one: where the session stands is made phases of rounds here."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_agent import session
from edge_agent.config import AgentConfig
from edge_agent.recorder import WAIT, Recorder
from edge_agent.spans import Span
from edge_agent.wire import messages as m
from edge_agent.wire.link import Traffic

PHASES = {
    session.Phase.JOINING: "join",
    session.Phase.FETCHING: "fetch",
    session.Phase.MEASURING: "measure",
    session.Phase.IDLE: WAIT,
    session.Phase.CATCHING_UP: "receive",
    session.Phase.TRAINING: "train",
    session.Phase.OFFERING: "publish",
    session.Phase.FINISHING: "finish",
}


class Recording:
    """Records, where the settings ask for it."""

    def __init__(self, settings: AgentConfig, budget_bytes: int, traffic: Callable[[], Traffic | None]) -> None:
        """`traffic` counts the bytes on the present link's socket."""
        self._recorder = Recorder(settings, budget_bytes, traffic) if settings.recorder.enabled else None
        self._last: tuple[session.Phase, int] | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything is recorded."""
        return self._recorder is not None

    @property
    def temperature_c(self) -> float | None:
        """Of the board, when it was last looked at; None where it does not tell, or nothing is recorded."""
        return None if self._recorder is None else self._recorder.temperature_c

    def tick(self) -> None:
        """Some time has passed."""
        if self._recorder is not None:
            self._recorder.tick()

    def follow(self, state: session.State) -> None:
        """The session stands so; most often as before."""
        stands = state.phase, _round_of(state)
        if self._recorder is None or stands == self._last:
            return
        self._last = stands
        run = None if state.welcome is None else state.welcome.run
        self._recorder.enter(PHASES.get(state.phase), stands[1], run, job=state.phase in session.JOBS)

    def take(self, span: Span) -> None:
        """The trainer ended a phase."""
        if self._recorder is not None:
            self._recorder.take(span)

    def take_offer(self, offer: m.Offer) -> None:
        """A round's update is about to be offered."""
        if self._recorder is not None:
            self._recorder.take_report(offer.round, msgspec.structs.replace(offer.report, phases=()))

    def restart_link(self) -> None:
        """The link is about to be closed, and another made."""
        if self._recorder is not None:
            self._recorder.restart_link()

    def close(self) -> None:
        """Ends the present phase; the agent stops."""
        if self._recorder is not None:
            self._recorder.enter(None, 0, None, job=False)


def _round_of(state: session.State) -> int:
    """The round that the session works for; 0 where it is none."""
    if state.phase is session.Phase.OFFERING and state.offer is not None:
        return state.offer.round
    return state.work.round if isinstance(state.work, m.Plan) else 0
