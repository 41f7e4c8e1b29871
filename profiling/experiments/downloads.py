"""What a device has to fetch to get from the version it holds to the newest one, as the coordinator would offer it."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.wire import state as states
from edge_agent.wire.container import Kind, seal

from .method import Model, Parts
from .views import project, view_of


class Downloads:
    """The broadcasts of all versions, and the snapshot of the newest; `start` is what devices make from the seed."""

    def __init__(self, start: Model) -> None:
        self._start = start
        self._broadcasts: list[tuple[bytes, ...]] = []
        self._snapshot: tuple[bytes, ...] = ()
        self._parts = Parts(False, False, False)

    @property
    def version(self) -> int:
        """The newest version; 0 is made from the seed and never fetched."""
        return len(self._broadcasts)

    def add(self, model: Model, parts: Parts) -> None:
        """Adds the version that a round made; `parts` are those that it changed."""
        self._parts = Parts(*(one or other for one, other in zip(self._parts, parts, strict=True)))
        if model.whole:
            self._broadcasts = [()] * len(self._broadcasts)
        self._broadcasts.append(model.broadcast)
        self._snapshot = _snapshot(model, self._parts, self._start)

    def since(self, version: int) -> tuple[bytes, ...]:
        """Every broadcast after `version`, or the snapshot where that is less."""
        missed = self._broadcasts[version:]
        broadcasts = tuple(body for one in missed for body in one)
        if len(missed) <= 1 or _bytes(broadcasts) <= _bytes(self._snapshot):
            return broadcasts
        return self._snapshot


def _snapshot(model: Model, parts: Parts, start: Model) -> tuple[bytes, ...]:
    """The whole model: the parts of the ranks that ever changed, and what was added to the frozen weights since."""
    state = model.fleet.state
    view = replace(state, layout=view_of(state.layout, parts), rows=project(state.layout, state.rows, parts))
    moved = [added for name, added in model.base.items() if added is not start.base.get(name)]
    base = b"".join(added.astype("<f4").tobytes() for added in moved)
    return (states.to_bytes(view), *((seal(Kind.SNAPSHOT, base),) if base else ()))


def _bytes(bodies: tuple[bytes, ...]) -> int:
    return sum(map(len, bodies))
