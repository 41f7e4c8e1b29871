"""What one run leaves: the file in the cache that reports are made from."""

from __future__ import annotations

import msgspec

from .settings import Run


class RoundResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One round. Bytes are those of the encoded objects and frames of all devices together, of this round alone."""

    round: int
    bytes_up: int
    bytes_down: int
    loss: float | None
    """Mean of the devices' training losses, weighted by examples; None where none trained."""
    accuracy: float | None
    """On the common test sample after the round; None where it was not evaluated."""
    device_s: float | None
    """Modelled time of the slowest device: training by the cost table, and its transfers over the link; None where
    the profile has no device."""
    drift: float | None
    """Client drift: the devices' root mean square distance from their mean change, relative to that mean's length;
    None where nothing changed."""
    ranks: tuple[int, ...]
    """Living ranks of every module after the round, in the order of `Result.modules`."""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finished run."""

    run: Run
    modules: tuple[str, ...]
    start_accuracy: float
    """Before the first round."""
    rounds: tuple[RoundResult, ...]
    wall_s: float
    date: str
    version: str
    """Of this software."""

    @property
    def accuracy(self) -> float:
        """After the last round."""
        final = self.rounds[-1].accuracy
        assert final is not None
        return final

    @property
    def bytes_total(self) -> int:
        """Up and down together, over all rounds and devices."""
        return sum(one.bytes_up + one.bytes_down for one in self.rounds)
