"""Updates that devices offer: which have a place, and what their devices are told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from coordinator import events
from coordinator import round as rounds
from coordinator.desk import Desk
from coordinator.intake import Intake
from coordinator.lateness import Place, place_of
from coordinator.plans import Planner
from coordinator.revoked import Revoked
from coordinator.store import Store
from edge_agent.wire import crash_points
from edge_agent.wire import messages as m
from edge_agent.wire.crash_points import Point
from edge_agent.wire.errors import PayloadError


class Reception:
    """Answers offers and takes in what was offered; what comes of it is an event of the round machine, or none."""

    def __init__(  # noqa: PLR0913 (the parts that it is put together from)
        self,
        store: Store,
        desk: Desk,
        planner: Planner,
        intake: Intake,
        watch: events.Watch,
        clock: Callable[[], float],
        *,
        revoked: Revoked = frozenset,
    ) -> None:
        self._store = store
        self._desk = desk
        self._planner = planner
        self._intake = intake
        self._watch = watch
        self._clock = clock
        self._revoked = revoked

    def offered(self, state: rounds.State, device: str, offer: m.Offer) -> rounds.Declined | None:
        """Begins to pull an update that has a place; one that counts already is acknowledged, any other refused."""
        place = self._place_of(state, device, offer.round)
        if self._store.holds(offer.round, device, offer.update.sha256):
            self._desk.send(device, m.Acknowledged(offer.round, offer.update.sha256))
        elif place in (Place.OPEN, Place.LATE):
            return self._begin(state, device, offer)
        elif place is Place.NONE:
            why = f"round {offer.round} has no place for it, round {state.round} is the last that opened"
            self._desk.send(device, m.Rejected(offer.round, why, False))
        return None

    def came(self, state: rounds.State, device: str, chunk: m.Chunk) -> rounds.Event | None:
        """Books a chunk; an update that is whole by it is stored, then acknowledged.

        Raises:
            StoreError: it could not be kept.
        """
        number = self._intake.origin(device)
        if number is None or self._place_of(state, device, number) not in (Place.OPEN, Place.LATE):
            self._intake.drop(device)
            return None
        try:
            offer = self._intake.take(device, chunk, self._clock())
        except PayloadError as error:
            return self._refuse(state, device, number, error)
        return None if offer is None else self._acknowledge(state, device, offer)

    def expelled(self, state: rounds.State) -> Iterator[rounds.Expelled]:
        """Devices that were revoked: what they gave to the open round is dropped, and they are not waited for."""
        for device in sorted(self._revoked().intersection(state.ready | state.parts.keys())):
            self._intake.drop(device)
            if state.phase is rounds.Phase.OPEN:
                self._store.drop_contribution(state.round, device)
            self._desk.change(device, online=False, note="its certificate is revoked")
            self._watch(events.Left(device, "its certificate is revoked"))
            yield rounds.Expelled(device, self._clock())

    def _place_of(self, state: rounds.State, device: str, number: int) -> Place:
        """Where an update for round `number` could count; statistics of the classes are of use in their own only."""
        place = place_of(state, device, number)
        return place if place is Place.OPEN or self._planner.work(number) == "train" else Place.NONE

    def _begin(self, state: rounds.State, device: str, offer: m.Offer) -> rounds.Declined | None:
        try:
            self._intake.begin(device, offer, state.round)
        except PayloadError as error:
            return self._refuse(state, device, offer.round, error)
        return None

    def _acknowledge(self, state: rounds.State, device: str, offer: m.Offer) -> rounds.Stored | rounds.StoredLate:
        """The update is in the store. Its device has come to the version that it trained from."""
        self._desk.came_to(device, offer.round - 1)
        self._desk.send(device, m.Acknowledged(offer.round, offer.update.sha256))
        crash_points.reach(Point.COORDINATOR_ACKNOWLEDGED)
        self._watch(events.Received(device, offer.round, offer.report))
        stored = rounds.Stored if offer.round == state.round else rounds.StoredLate
        return stored(device, state.round, self._clock())

    def _refuse(self, state: rounds.State, device: str, number: int, error: PayloadError) -> rounds.Declined | None:
        """The open round goes on without it. A device whose late update it was still has its part in it."""
        self._intake.drop(device)
        self._watch(events.Refused(device, str(error)))
        self._desk.reject(device, error, number)
        return rounds.Declined(device, number, self._clock()) if number == state.round else None
