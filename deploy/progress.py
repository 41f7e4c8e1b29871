"""The coordinator's events as lines for a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator import events


class Progress:
    """Makes at most one line of an event; None for those that need none."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def line(self, event: events.Watched) -> str | None:
        """The line that tells of `event`."""
        if isinstance(event, events.Training):
            return self._training(event)
        return _LINES[type(event)](event)

    def _training(self, event: events.Training) -> str | None:
        """A quarter of a round is worth a line, a step is not."""
        quarter = 4 * event.step // max(event.steps, 1)
        key = f"{event.device} {event.round}"
        if quarter <= self._told.get(key, 0) or event.step == event.steps:
            return None
        self._told[key] = quarter
        loss = "not finite: training diverged" if event.loss is None else f"{event.loss:.3f}"
        return f"    {event.device:<12} step {event.step}/{event.steps}  loss {loss}"


def megabytes(count: int) -> str:
    """Bytes for a person: MB with one decimal, kB below one MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _listening(event: events.Listening) -> str:
    return f"fleet {event.fleet}: coordinator ready at {event.host}:{event.port}"


def _mended(event: events.Mended) -> str:
    return f"the run goes on from version {event.version} of {event.newest}: {event.reason}"


def _joined(event: events.Joined) -> str:
    return f"  {event.device} joined: {event.examples} examples, budget {megabytes(event.budget_bytes)}"


def _opened(event: events.Opened) -> str:
    who = ", ".join(event.cohort)
    what = f"{event.ranks_alive} ranks alive, training" if event.work == "train" else "statistics of the classes"
    return f"round {event.round}/{event.rounds}: {what} on {who}"


def _received(event: events.Received) -> str:
    report = event.report
    used = report.peak_anonymous_bytes + report.mapped_bytes
    if report.loss is None:
        did = f"statistics of the classes of {report.examples} examples"
    else:
        did = f"loss {report.loss:.3f}  {report.ranks} ranks, {report.depth} blocks, {report.kept_blocks} kept"
    return (
        f"    {event.device:<12} {did}, micro-batch {report.micro_batch}  "
        f"memory {megabytes(used)} (RSS {megabytes(report.peak_rss_bytes)})  "
        f"sent {megabytes(report.bytes_up)} received {megabytes(report.bytes_down)} so far"
    )


def _closed(event: events.Closed) -> str:
    record = event.record
    accuracy = "" if record.accuracy is None else f"hold-out accuracy before it {record.accuracy:.3f}  "
    loss = "" if record.loss is None else f"loss {record.loss:.3f}  "
    returned = "" if record.returned_to is None else f"  WORSE: back to the model of version {record.returned_to}"
    return (
        f"  round {record.round} closed: {accuracy}{loss}{record.ranks_alive} ranks in "
        f"{record.modules_alive} modules  up {megabytes(record.updates_bytes)} down {megabytes(record.delta_bytes)} "
        f"each  {record.wall_s:.1f} s{returned}"
    )


def _refused(event: events.Refused) -> str:
    return f"  {event.device}: {event.reason}"


def _objective(event: events.Objective) -> str:
    said = "met again" if event.met else "MISSED"
    return f"  objective {event.name} {said}: {event.value:g}, asked for {event.bound:g}"


def _finished(event: events.Finished) -> str:
    accuracy = event.finished.accuracy
    shown = "no hold-out" if accuracy is None else f"hold-out accuracy {accuracy:.3f}"
    return f"  {event.device} holds the final model: {shown}"


def _done(event: events.Done) -> str:
    return f"run over after {event.rounds} rounds" + (f"; missing {', '.join(event.missing)}" if event.missing else "")


_LINES: dict[type, Callable[[Any], str]] = {
    events.Listening: _listening,
    events.Mended: _mended,
    events.Joined: _joined,
    events.Left: lambda event: f"  {event.device} went offline: {event.reason}",
    events.Waiting: lambda event: f"  waiting: {event.reason}",
    events.Opened: _opened,
    events.Received: _received,
    events.Refused: _refused,
    events.Flooding: lambda event: f"  {event.device} sends over {event.messages_per_s:g} messages a second: dropped",
    events.Objective: _objective,
    events.Closed: _closed,
    events.Finished: _finished,
    events.Done: _done,
}
