"""Makes each device's part in a round from the fleet's model and what the device can do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from coordinator.allocate import Allocation, Terms, allocate
from coordinator.config import CoordinatorConfig
from coordinator.fleet_model import FleetModel, Rules
from coordinator.objects import Objects
from coordinator.rank_plan import RankPlan
from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.pack import Manifest, load_manifest, module_layout
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Layout, pack_mask

TRAIN_SHARE = 0.6
"""Share of a round's deadline that training may take; as much again is left for upload and for surprises."""
UPLOAD_SHARE = 0.2


def fleet_layout(config: CoordinatorConfig) -> Layout:
    """The tables of the fleet.

    Raises:
        PackError: there is no pack where the configuration says.
    """
    return module_layout(load_manifest(Path(config.pack)), config.ranks.initial, len(config.classes))


class Planner:
    """The fleet's terms, and plans made of them.

    Raises:
        PackError: there is no pack where the configuration says.
        ConfigError: the schedule's phases do not fit into the rounds.
    """

    def __init__(self, config: CoordinatorConfig, objects: Objects, run_id: bytes) -> None:
        self._config = config
        self._objects = objects
        self._manifest: Manifest = load_manifest(Path(config.pack))
        self.layout = fleet_layout(config)
        self._ranks = RankPlan(config.ranks, config.round.rounds, self.layout.full_mask())
        self.welcome = m.Welcome(
            fleet=config.fleet,
            run=run_id,
            seed=config.seed,
            slots=config.ranks.initial,
            classes=config.classes,
            pack=objects.manifest,
            training=config.message_training(),
        )

    def rules(self, model: FleetModel, number: int) -> Rules:
        """How round `number` closes, which starts from `model`."""
        rules = self._ranks.rules(model, number, find_scheme(self._config.training.quantisation))
        return replace(rules, left_out=self._config.aggregation.left_out)

    def work(self, number: int) -> m.PlanWork:
        """What round `number` is for."""
        return self._config.head.first_work() if number == 1 else "train"

    def allocation(self, model: FleetModel, ready: m.Ready) -> Allocation:
        """What a device is to train of `model`.

        Raises:
            BudgetError: nothing fits the device's budget.
        """
        return allocate(self.layout, model.state.mask, model.importance, ready.capability, self._terms(ready))

    def plan(self, model: FleetModel, ready: m.Ready, number: int) -> m.Plan:
        """The part in round `number` of a device that is at the version it reported. Raises as `allocation`."""
        allocation = self.allocation(model, ready)
        return m.Plan(
            round=number,
            rounds=self._config.round.rounds,
            version=model.state.version,
            deltas=self._objects.path_from(ready.version, model.state),
            state_sha256=states.digest(model.state),
            work=self.work(number),
            trained=pack_mask(allocation.trained),
            budget_ranks=self.rules(model, number).budget_ranks,
            lowest_block=allocation.lowest_block,
            deadline_s=self._config.round.deadline_s,
            late_rounds=self._config.round.late_rounds if self.work(number) == "train" else 0,
        )

    def final(self, model: FleetModel, version: int) -> m.Final:
        """The way from `version` to the model, to predict with."""
        deltas = self._objects.path_from(version, model.state)
        return m.Final(model.state.version, deltas, states.digest(model.state))

    def _terms(self, ready: m.Ready) -> Terms:
        training, deadline_s = self._config.training, self._config.round.deadline_s
        longest = cost.bucket(min(ready.longest_tokens, self._max_tokens), self._buckets)
        return Terms(
            model=cost.model_of(self._manifest),
            batch=training.batch_size,
            token_buckets=tuple(sorted((b for b in self._buckets if b <= longest), reverse=True)),
            steps=training.local_steps or math.ceil(ready.examples / training.batch_size),
            train_s=TRAIN_SHARE * deadline_s,
            upload_s=UPLOAD_SHARE * deadline_s,
            scheme=find_scheme(training.quantisation),
        )

    @property
    def _max_tokens(self) -> int:
        return min(self._config.training.max_tokens, self._manifest.max_tokens)

    @property
    def _buckets(self) -> tuple[int, ...]:
        return cost.buckets_up_to(self._max_tokens)
