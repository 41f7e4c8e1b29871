"""Coordinators with a fault that a soak has to find: their databases, for the coordinator itself is the real one."""

from __future__ import annotations

from coordinator.store import Checkpoint, Contribution, Store


class WriteBehindStore(Store):
    """Updates reach the disk only when the round closes: those that were acknowledged before a crash are lost."""

    def _held(self) -> dict[tuple[int, str], Contribution]:
        return self.__dict__.setdefault("held", {})

    def keep_contribution(self, number: int, row: Contribution) -> None:
        self._held()[number, row.device] = row

    def contributors(self, number: int) -> dict[str, tuple[bytes, bytes]]:
        held = {row.device: (row.sha256, row.report) for (one, _), row in self._held().items() if one == number}
        return dict(sorted({**super().contributors(number), **held}.items()))

    def contribution_body(self, number: int, device: str) -> bytes:
        for (one, _), row in self._held().items():
            super().keep_contribution(one, row)
        self._held().clear()
        return super().contribution_body(number, device)


class DoubleStore(Store):
    """The first update of a round counts a second time, in place of the last."""

    def contribution_body(self, number: int, device: str) -> bytes:
        names = list(self.contributors(number))
        return super().contribution_body(number, names[0] if device == names[-1] else device)


class OvercountingStore(Store):
    """Rounds close with a record that names one device too many."""

    def close_round(
        self, number: int, checkpoint: Checkpoint, delta: bytes, record: bytes, late_rounds: int = 0
    ) -> None:
        named = record.replace(b'"contributors":[', b'"contributors":["device-999",')
        super().close_round(number, checkpoint, delta, named, late_rounds)


class BrokenStore(Store):
    """A plan cannot be written: the coordinator ends by itself."""

    def keep_plan(self, number: int, device: str, body: bytes) -> None:
        raise RuntimeError("planted")
