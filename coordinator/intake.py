"""Takes updates in: pulled from their devices in chunks, checked whole, and on disk before anyone is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from coordinator.config import GuardSettings
from coordinator.guard import root_mean_square
from coordinator.records import reports_of
from coordinator.rows import plan_of
from coordinator.store import Contribution, Store
from edge_agent.wire import codec, crash_points, transfer
from edge_agent.wire import messages as m
from edge_agent.wire.class_statistics import statistics_layout, update_layout
from edge_agent.wire.crash_points import Point
from edge_agent.wire.errors import PayloadError, StoreError
from edge_agent.wire.pace import Pace
from edge_agent.wire.pull import Puller
from edge_agent.wire.ranks import Layout, unpack_mask


class _Pull(NamedTuple):
    offer: m.Offer
    number: int
    puller: Puller
    sink: transfer.MemorySink


class Intake:
    """The updates on their way, at most one a device."""

    def __init__(self, store: Store, layout: Layout, limits: GuardSettings) -> None:
        self._store = store
        self._limits = limits
        self._layout = layout
        self._limit_bytes = max(map(codec.update_limit_bytes, (layout, statistics_layout(layout))))
        self._pulls: dict[str, _Pull] = {}
        self._paces: dict[str, Pace] = {}
        self._counted = (0, 0)
        """A round, and the examples of its updates that are in the store: its reports are not read for each update."""

    def begin(self, device: str, offer: m.Offer, number: int) -> None:
        """Begins to pull what `device` offers, to count in round `number`; the same on its way already goes on.

        Raises:
            PayloadError: nothing to pull, more than an update can have, or an impossible report.
        """
        _check_report(offer.report)
        size_bytes = offer.update.size_bytes
        if not 1 <= size_bytes <= self._limit_bytes:
            raise PayloadError(f"an update of this fleet has 1 to {self._limit_bytes} bytes, {size_bytes} are offered")
        if device in self._pulls and self._pulls[device].offer.update == offer.update:
            return
        sink = transfer.MemorySink(self._limit_bytes)
        pace = self._paces.setdefault(device, Pace())
        self._pulls[device] = _Pull(offer, number, Puller(pace), sink)
        self._pulls[device].puller.add(offer.update, sink)

    def interrupted(self, device: str) -> None:
        """The connection was lost, ours or the device's: what was on its way is asked for again."""
        if device in self._pulls:
            self._pulls[device].puller.interrupted()

    def wants(self, limit_bytes: int, now_s: float, is_online: Callable[[str], bool]) -> Iterator[tuple[str, m.Want]]:
        """What to ask which device for now, in chunks of at most `limit_bytes`.

        One that is offline is asked for nothing: a broker would keep it, and the device answer all of it in the end.
        """
        for device, pull in self._pulls.items():
            if not is_online(device):
                continue
            want = pull.puller.poll(limit_bytes, now_s)
            if want is not None:
                yield device, want

    def take(self, device: str, chunk: m.Chunk, now_s: float) -> m.Offer | None:
        """Books a chunk; the offer that it completed, whose update was checked and is in the store.

        Raises:
            PayloadError: a chunk that cannot be, or an update that cannot be used.
            StoreError: it could not be kept.
        """
        pull = self._pulls.get(device)
        if pull is None:
            return None
        if pull.puller.take(chunk, now_s) is None:
            crash_points.reach(Point.COORDINATOR_CHUNK_TAKEN)
            return None
        offer = self._pulls.pop(device).offer
        self._check(device, pull)
        report = msgspec.msgpack.encode(offer.report)
        contribution = Contribution(device, offer.update.sha256, report, pull.sink.data, offer.round)
        crash_points.reach(Point.COORDINATOR_UPDATE_CHECKED)
        self._store.keep_contribution(pull.number, contribution)
        self._counted = pull.number, self._examples(pull.number) + offer.report.examples
        crash_points.reach(Point.COORDINATOR_UPDATE_STORED)
        return offer

    def origin(self, device: str) -> int | None:
        """The round that the update on its way from a device was made for, if one is on its way."""
        pull = self._pulls.get(device)
        return None if pull is None else pull.offer.round

    def drop(self, device: str) -> None:
        """Forgets what is on its way from a device."""
        self._pulls.pop(device, None)

    def clear(self) -> None:
        """Forgets everything on its way: its round is over."""
        self._pulls.clear()

    def _check(self, device: str, pull: _Pull) -> None:
        offer = pull.offer
        plan = self._plan(device, pull)
        if (offer.report.loss is None) != (plan.work != "train"):
            raise PayloadError(f"a report of a round of {plan.work} has the loss {offer.report.loss}")
        layout = update_layout(self._layout, plan.work)
        allowed = unpack_mask(plan.trained, self._layout) if plan.work == "train" else None
        update = codec.decode_update(pull.sink.data, layout, limit_bytes=self._limit_bytes, allowed=allowed)
        found = (update.round, update.version, update.examples)
        expected = (offer.round, plan.version, offer.report.examples)
        if found != expected:
            raise PayloadError(f"an update of round, version and examples {expected} was due, got {found}")
        if plan.work == "train":
            self._check_size(update)
        others = self._examples(pull.number)
        if others + update.examples > codec.MAX_EXAMPLES:
            raise PayloadError(
                f"a round counts at most {codec.MAX_EXAMPLES} examples, this update would bring it to "
                f"{others + update.examples}"
            )

    def _plan(self, device: str, pull: _Pull) -> m.Plan:
        number = pull.offer.round
        body = self._store.plan(number, device)
        if body is None:
            raise PayloadError(f"{device} had no part in round {number}")
        try:
            return plan_of(self._store, number, device, body)
        except StoreError as error:
            if number == pull.number:
                raise
            raise PayloadError(f"a late update cannot be checked: {error}") from error  # its plan is not made again

    def _examples(self, number: int) -> int:
        if self._counted[0] != number:
            self._counted = number, sum(report.examples for report in reports_of(self._store, number).values())
        return self._counted[1]

    def _check_size(self, update: codec.Update) -> None:
        found = root_mean_square(update)
        if found > self._limits.rms_limit and self._limits.beyond == "reject":
            raise PayloadError(
                f"an update changes its numbers by {found:.3g} (root mean square), guard.rms_limit is "
                f"{self._limits.rms_limit:g}: did training diverge? Lower training.lr"
            )


def _check_report(report: m.RoundReport) -> None:
    times = (number for phase in report.phases for number in (phase.wall_s, phase.cpu_s))
    told = [number for number in (report.loss, report.step_s, *times) if number is not None]
    if not all(map(math.isfinite, told)):
        raise PayloadError(f"a report has numbers that are not finite (loss {report.loss}): did training diverge?")
    if report.holdout_correct > report.holdout_total:
        raise PayloadError(f"a report has {report.holdout_correct} of {report.holdout_total} hold-out rows right")
