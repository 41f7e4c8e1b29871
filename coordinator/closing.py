"""The closing of a round: its updates become the next model, which is on disk with its record before anyone is told."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from coordinator import fleet_model
from coordinator.config import CoordinatorConfig
from coordinator.events import RoundRecord
from coordinator.fallback import last_good
from coordinator.fleet_model import Closing, FleetModel, Rules
from coordinator.guard import clipped
from coordinator.plans import Planner
from coordinator.records import accuracy_of, make_record, mean_loss, measured_accuracies, reports_of
from coordinator.round import Close
from coordinator.store import Store
from edge_agent.wire import codec, crash_points
from edge_agent.wire.class_statistics import update_layout
from edge_agent.wire.crash_points import Point


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
        record = make_record(self._store, action, closing, rules.budget_ranks, wall_s)
        checkpoint = fleet_model.to_checkpoint(closing.model)
        crash_points.reach(Point.COORDINATOR_AGGREGATED)
        self._store.close_round(action.round, checkpoint, closing.delta, msgspec.json.encode(record))
        if record.accuracy is not None:
            self._measured[model.state.version] = record.accuracy
        return closing.model, record

    def _aggregated(self, model: FleetModel, action: Close, rules: Rules) -> Closing:
        updates = self._updates(action)
        if self._planner.work(action.round) != "train":
            return fleet_model.start_head(model, updates, rules.scheme)
        loss = mean_loss(reports_of(self._store, action.round))
        return fleet_model.close_round(model, updates, loss, rules)

    def _updates(self, action: Close) -> Iterator[codec.Update]:
        layout = update_layout(self._planner.layout, self._planner.work(action.round))
        limit_bytes = codec.update_limit_bytes(layout)
        for device in action.contributors:
            body = self._store.contribution_body(action.round, device)
            update = codec.decode_update(body, layout, limit_bytes=limit_bytes)
            yield update if layout is not self._planner.layout else clipped(update, self._config.guard.rms_limit)

    def _last_good(self, model: FleetModel, action: Close) -> FleetModel | None:
        """The model to return to, where the devices found `model` worse than an earlier one by more than the margin."""
        accuracy = accuracy_of(reports_of(self._store, action.round).values())
        if accuracy is None:
            return None
        version, kept = model.state.version, {one.version: one for one in self._store.checkpoints()}
        measured = {**self._measured, version: accuracy}
        found = last_good(measured, version, self._config.fallback.margin, kept)
        return None if found is None else fleet_model.from_checkpoint(kept[found], self._planner.layout)
