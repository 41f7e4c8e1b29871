"""The record of a closed round, from the devices' reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from coordinator.automatic import Sign
from coordinator.config import RoundSettings
from coordinator.events import RoundRecord
from coordinator.fleet_model import Closing
from coordinator.lateness import weight
from coordinator.round import Close
from coordinator.rows import records_of, report_of
from coordinator.store import Store
from edge_agent.wire import messages as m


def make_record(
    store: Store, settings: RoundSettings, action: Close, closing: Closing, budget_ranks: int, wall_s: float
) -> RoundRecord:
    """What round `action.round` leaves on record; means are weighted by examples."""
    reports, late = reports_of(store, action.round), store.late(action.round)
    timely = {device: report for device, report in reports.items() if device not in late}
    mask = closing.model.state.mask
    examples = sum(
        weight(report.examples, late.get(device, 0), settings.late_exponent) for device, report in reports.items()
    )
    loss = mean_loss(timely)
    return RoundRecord(
        round=action.round,
        version=closing.model.state.version,
        contributors=action.contributors,
        examples=examples,
        loss=loss,
        accuracy=accuracy_of(timely.values()),
        ranks_alive=int(mask.sum()),
        modules_alive=int(mask.any(axis=1).sum()),
        budget_ranks=budget_ranks,
        needed_ranks=None if loss is None else closing.model.signs[-1].needed_ranks,
        agreement=None if loss is None else closing.model.signs[-1].agreement,
        updates_bytes=sum(len(store.contribution_body(action.round, device)) for device in action.contributors),
        delta_bytes=len(closing.delta),
        wall_s=wall_s,
        returned_to=closing.returned_to,
        late=late,
    )


def reports_of(store: Store, number: int) -> dict[str, m.RoundReport]:
    """Reports of the devices that contributed to round `number`.

    Raises:
        StoreError: one is damaged.
    """
    return {device: report_of(store, number, device, body) for device, (_, body) in store.contributors(number).items()}


def timely_reports(store: Store, number: int) -> dict[str, m.RoundReport]:
    """The same, of those whose update was made for this round: what late ones tell is of an older model."""
    late = store.late(number)
    return {device: report for device, report in reports_of(store, number).items() if device not in late}


def mean_loss(reports: Mapping[str, m.RoundReport]) -> float | None:
    """The mean training loss, weighted by examples; None where nobody trained."""
    told = [(report.loss, report.examples) for report in reports.values() if report.loss is not None]
    return sum(loss * examples for loss, examples in told) / sum(examples for _, examples in told) if told else None


def signs_of(store: Store) -> tuple[Sign, ...]:
    """What all closed rounds of training showed."""
    return tuple(
        Sign(one.loss, one.needed_ranks, one.agreement)
        for one in records_of(store)
        if one.loss is not None and one.needed_ranks is not None and one.agreement is not None
    )


def measured_accuracies(store: Store) -> dict[int, float]:
    """Accuracy on the hold-outs by the version that it was measured of, as far as the closed rounds did."""
    return {one.version - 1: one.accuracy for one in records_of(store) if one.accuracy is not None}


def accuracy_of(reports: Collection[m.RoundReport]) -> float | None:
    """On the hold-outs of the devices, of the model that they started from; None where they hold nothing out."""
    total = sum(report.holdout_total for report in reports)
    return sum(report.holdout_correct for report in reports) / total if total else None
