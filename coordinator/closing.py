"""The closing of a round: its updates become the next model, which is on disk with its record before anyone is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from coordinator import fleet_model
from coordinator.config import CoordinatorConfig
from coordinator.events import RoundRecord
from coordinator.fallback import last_good
from coordinator.fleet_model import Closing, FleetModel, Rules
from coordinator.guard import clipped
from coordinator.lateness import weight
from coordinator.plans import Planner
from coordinator.records import accuracy_of, make_record, mean_loss, measured_accuracies, timely_reports
from coordinator.round import Close
from coordinator.store import Store
from edge_agent.wire import codec, crash_points
from edge_agent.wire.class_statistics import update_layout
from edge_agent.wire.crash_points import Point
from edge_agent.wire.errors import PayloadError

LOGGER = logging.getLogger("rankfleet.coordinator")


class Closer:
    """Closes the rounds of one run. What was measured is read once: all records, at every close, would be ever more."""

    def __init__(self, config: CoordinatorConfig, store: Store, planner: Planner) -> None:
        self._config = config
        self._store = store
        self._planner = planner
        self._measured = measured_accuracies(store)

    def close(self, model: FleetModel, action: Close, wall_s: float) -> tuple[FleetModel, RoundRecord]:
        """Closes the round that started from `model` and took `wall_s`: the next model, and the round's record.

        Raises:
            StoreError: it could not be written; the round is as open as it was.
        """
        rules = self._planner.rules(model, action.round)
        closing = self._aggregated(model, action, rules)
        good = self._last_good(model, action)
        if good is not None:
            closing = fleet_model.return_to(good, closing)
        record = make_record(self._store, self._config.round, action, closing, rules.budget_ranks, wall_s)
        checkpoint = fleet_model.to_checkpoint(closing.model)
        crash_points.reach(Point.COORDINATOR_AGGREGATED)
        late_rounds = self._config.round.late_rounds
        self._store.close_round(action.round, checkpoint, closing.delta, msgspec.json.encode(record), late_rounds)
        if record.accuracy is not None:
            self._measured[model.state.version] = record.accuracy
        return closing.model, record

    def _aggregated(self, model: FleetModel, action: Close, rules: Rules) -> Closing:
        updates = self._updates(action)
        if self._planner.work(action.round) != "train":
            return fleet_model.start_head(model, updates, rules.scheme)
        loss = mean_loss(timely_reports(self._store, action.round))
        return fleet_model.close_round(model, updates, loss, rules)

    def _updates(self, action: Close) -> Iterator[codec.Update]:
        layout = update_layout(self._planner.layout, self._planner.work(action.round))
        limit_bytes = codec.update_limit_bytes(layout)
        for device in action.contributors:
            body = self._store.contribution_body(action.round, device)
            update = codec.decode_update(body, layout, limit_bytes=limit_bytes)
            yield update if layout is not self._planner.layout else self._tempered(update, action.round)

    def _tempered(self, update: codec.Update, number: int) -> codec.Update:
        """An update of training as it counts in round `number`: not larger, nor weightier, than it may be."""
        late_rounds = number - update.round
        if late_rounds:
            weighs = weight(update.examples, late_rounds, self._config.round.late_exponent)
            update = replace(update, examples=weighs)
        return clipped(update, self._config.guard.rms_limit)

    def _last_good(self, model: FleetModel, action: Close) -> FleetModel | None:
        """The model to return to, where the devices found `model` worse than an earlier one by more than the margin."""
        accuracy = accuracy_of(timely_reports(self._store, action.round).values())
        if accuracy is None:
            return None
        version, kept = model.state.version, {one.version: one for one in self._store.checkpoints()}
        measured = {**self._measured, version: accuracy}
        while (found := last_good(measured, version, self._config.fallback.margin, kept)) is not None:
            try:
                return fleet_model.from_checkpoint(kept.pop(found), self._planner.layout)
            except PayloadError as error:
                LOGGER.warning(
                    "the checkpoint of version %d is damaged, the fleet cannot return to it: %s", found, error
                )
        return None
