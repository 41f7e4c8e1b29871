"""The end of a run: every device gets the final model and confirms it, then all are dismissed."""

from __future__ import annotations

from coordinator import events
from coordinator.config import RoundSettings
from coordinator.desk import Desk
from coordinator.fleet_model import FleetModel
from coordinator.plans import Planner
from coordinator.revoked import Revoked
from coordinator.store import Store
from edge_agent.wire import crash_points
from edge_agent.wire import messages as m
from edge_agent.wire.crash_points import Point

LEAVE_S = 10.0
"""Dismissed devices may take so long to go: an embedded broker ends with us, and with it what it still holds."""
LEAVE = m.Leave("the run is over")


class Farewell:
    """Begins once the last round is closed. Who confirmed is in the store, so a restart goes on where it was."""

    def __init__(
        self,
        settings: RoundSettings,
        store: Store,
        desk: Desk,
        planner: Planner,
        watch: events.Watch,
        *,
        revoked: Revoked = frozenset,
    ) -> None:
        self._settings = settings
        self._store = store
        self._desk = desk
        self._planner = planner
        self._watch = watch
        self._revoked = revoked
        self._model: FleetModel | None = None
        self._finished: dict[str, m.Finished] = {}
        self._unable: set[str] = set()
        self._begun_s = 0.0
        self._dismissed_s: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the last round is closed."""
        return self._model is not None

    @property
    def dismissed(self) -> bool:
        """Whether every device was told to leave."""
        return self._dismissed_s is not None

    def begin(self, model: FleetModel, now_s: float) -> None:
        """`model` is the final one: sends it to whoever is there."""
        self._model, self._begun_s = model, now_s
        self._finished = _load_finished(self._store, model.state.version)
        self._send_finals(model)
        self._dismiss_if_complete(now_s)

    def confirm(self, device: str, message: m.Finished, now_s: float) -> None:
        """A device says that it holds a final model; heeded if it is the one of this run."""
        if self._model is None or message.version != self._model.state.version:
            return
        if device not in self._finished:
            self._finished[device] = message
            self._store.keep(finished=self._finished)
            crash_points.reach(Point.COORDINATOR_FINISHED_KEPT)
            self._watch(events.Finished(device, message))
        self._dismiss_if_complete(now_s)

    def decline(self, device: str) -> None:
        """A device says that it cannot keep the final model; it is asked again, but not waited for as long."""
        if self._model is not None:
            self._unable.add(device)

    def repeat(self, ready: frozenset[str], now_s: float) -> None:
        """Says again what has not been answered, and dismisses all when waiting longer is of no use."""
        if self._model is None:
            return
        if self.dismissed or now_s - self._begun_s >= self._patience_s(ready):
            self._dismiss(now_s)
        else:
            self._send_finals(self._model)

    def missing(self) -> tuple[str, ...]:
        """Devices that took part, are not revoked, and did not confirm the final model."""
        done = self._revoked().union(self._finished)
        return tuple(d.name for d in self._desk.roster if d.took_part and d.name not in done)

    def over(self, now_s: float) -> bool:
        """Whether the dismissed devices have gone, or had the time to."""
        if self._dismissed_s is None:
            return False
        late = now_s - self._dismissed_s >= LEAVE_S
        revoked = self._revoked()
        return late or not any(device.online and device.name not in revoked for device in self._desk.roster)

    def _patience_s(self, ready: frozenset[str]) -> float:
        """As long as for a round where a device is there and at work, the grace time where none is."""
        at_work = ready.intersection(self.missing()) - self._unable
        return self._settings.deadline_s if at_work else self._settings.grace_s

    def _send_finals(self, model: FleetModel) -> None:
        missing = self.missing()
        for device in self._desk.roster:
            if device.online and device.name in missing:
                self._desk.send(device.name, self._planner.final(model, device.version))
                crash_points.reach(Point.COORDINATOR_FINAL_SENT)

    def _dismiss_if_complete(self, now_s: float) -> None:
        if not self.missing():
            self._dismiss(now_s)

    def _dismiss(self, now_s: float) -> None:
        for device in self._desk.roster:
            self._desk.send(device.name, LEAVE)
        crash_points.reach(Point.COORDINATOR_DISMISSED)
        self._dismissed_s = now_s if self._dismissed_s is None else self._dismissed_s


def _load_finished(store: Store, version: int) -> dict[str, m.Finished]:
    """Devices that confirmed the final model, if `version` is it, to a coordinator that ran before."""
    finished = store.value_or("finished", {}, dict[str, m.Finished], "every device is asked to confirm again")
    return {device: message for device, message in finished.items() if message.version == version}
