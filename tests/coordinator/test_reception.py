"""Updates that come after their round closed, before a real coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from coordinator import closing, events
from coordinator.config import CoordinatorConfig, HeadSettings
from edge_agent.wire import messages as m
from tests.coordinator.devices import Devices, Start, an_open_round
from tests.coordinator.test_intake import with_exact
from tests.scripted import Device, Gateway, make_config

EXAMPLES = 18
ONE_LATE = 13
"""What these weigh one round late: 18 / sqrt(2)."""


def taking(tmp_path: Path, **settings: Any) -> CoordinatorConfig:
    """Rounds of three devices that close with two updates, and take updates that are a round late."""
    return make_config(tmp_path, **{"rounds": 4, "cohort": 2, "over_selection": 1.5, "late_rounds": 1, **settings})


def contributes(device: Device, plan: m.Plan) -> m.Offer:
    offer = device.offer(plan)
    assert device.hears(m.Acknowledged) == m.Acknowledged(plan.round, offer.update.sha256)
    device.version = plan.version
    return offer


def a_round_without_the_slowest(start: Start, devices: Devices, config: CoordinatorConfig) -> tuple[Gateway, m.Plan]:
    """The slowest is pi-3, whose plan this is; round 2 is open."""
    gateway, plans = an_open_round(start, devices, changed=config)
    for name in ("pi-1", "pi-2"):
        contributes(devices[name], plans[name])
    assert devices["pi-3"].hears(m.Plan).round == 2
    return gateway, plans["pi-3"]


def test_a_late_update_counts_in_the_open_round_and_weighs_less(
    start: Start, devices: Devices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[list[tuple[int, int]]] = []
    close_round = closing.fleet_model.close_round

    def watched(model: Any, updates: Any, *rest: Any) -> Any:
        taken = list(updates)
        counted.append([(update.round, update.examples) for update in taken])
        return close_round(model, taken, *rest)

    monkeypatch.setattr(closing.fleet_model, "close_round", watched)
    gateway, plan = a_round_without_the_slowest(start, devices, taking(tmp_path))
    contributes(devices["pi-3"], plan)
    contributes(devices["pi-1"], devices["pi-1"].hears(m.Plan))
    record = gateway.tells(events.Closed, 2)[1].record
    assert (record.contributors, record.late) == (("pi-1", "pi-3"), {"pi-3": 1})
    assert record.examples == EXAMPLES + ONE_LATE
    assert counted == [[(1, EXAMPLES), (1, EXAMPLES)], [(2, EXAMPLES), (1, ONE_LATE)]]
    assert devices["pi-3"].hears(m.Plan).round == 3, "it takes part in the next round like the others"


def test_what_late_devices_measured_is_not_said_of_the_present_model(
    start: Start, devices: Devices, tmp_path: Path
) -> None:
    gateway, plan = a_round_without_the_slowest(start, devices, taking(tmp_path))
    late = devices["pi-3"].offer(plan, holdout_correct=0, holdout_total=5, loss=99.0)
    devices["pi-3"].hears(m.Acknowledged)
    devices["pi-1"].offer(devices["pi-1"].hears(m.Plan), holdout_correct=4, holdout_total=5, loss=1.0)
    devices["pi-1"].hears(m.Acknowledged)
    record = gateway.tells(events.Closed, 2)[1].record
    assert late.report.loss == 99.0
    assert (record.accuracy, record.loss) == (0.8, 1.0)


def test_a_late_update_that_is_offered_again_is_acknowledged_and_counts_once(
    start: Start, devices: Devices, tmp_path: Path
) -> None:
    gateway, plan = a_round_without_the_slowest(start, devices, taking(tmp_path))
    slow = devices["pi-3"]
    contributes(slow, plan)
    contributes(slow, plan)
    contributes(devices["pi-1"], devices["pi-1"].hears(m.Plan))
    gateway.tells(events.Closed, 2)
    contributes(slow, plan)
    contributes(slow, slow.hears(m.Plan))
    contributes(devices["pi-1"], devices["pi-1"].hears(m.Plan))
    assert [event.record.late for event in gateway.tells(events.Closed, 3)] == [{}, {"pi-3": 1}, {}]


def test_a_late_update_survives_the_coordinator(start: Start, devices: Devices, tmp_path: Path) -> None:
    config = taking(tmp_path)
    gateway, plan = a_round_without_the_slowest(start, devices, config)
    contributes(devices["pi-3"], plan)
    gateway.crash()
    again = start(config)
    fast = devices["pi-1"]
    fast.hears(m.Welcome)
    fast.say(fast.ready())
    contributes(fast, fast.hears(m.Plan))
    assert again.tells(events.Closed)[0].record.late == {"pi-3": 1}


def test_one_that_is_too_late_is_refused_and_its_device_has_the_open_plan_at_once(
    start: Start, devices: Devices, tmp_path: Path
) -> None:
    _, plan = a_round_without_the_slowest(start, devices, taking(tmp_path))
    for name in ("pi-1", "pi-2"):
        contributes(devices[name], devices[name].hears(m.Plan))
    slow = devices["pi-3"]
    assert slow.hears(m.Plan).round == 3
    slow.offer(plan)
    refused = slow.hears(m.Rejected)
    assert (refused.round, refused.final) == (1, False)
    assert slow.hears(m.Plan).round == 3


def test_a_late_update_that_cannot_be_used_leaves_its_device_a_part_in_the_open_round(
    start: Start, devices: Devices, tmp_path: Path
) -> None:
    gateway, plan = a_round_without_the_slowest(start, devices, taking(tmp_path))
    slow = devices["pi-3"]
    slow.offer_bytes(plan, with_exact(slow, plan, np.nan))
    assert slow.hears(m.Rejected).round == 1
    contributes(slow, slow.hears(m.Plan))
    contributes(devices["pi-1"], devices["pi-1"].hears(m.Plan))
    assert gateway.tells(events.Closed, 2)[1].record.late == {}


def test_statistics_of_the_classes_are_of_no_use_later(start: Start, devices: Devices, tmp_path: Path) -> None:
    config = msgspec.structs.replace(taking(tmp_path), head=HeadSettings("class_means"))
    _, plan = a_round_without_the_slowest(start, devices, config)
    assert (plan.work, plan.late_rounds) != ("train", 1)
    slow = devices["pi-3"]
    slow.offer(plan)
    assert slow.hears(m.Rejected).round == 1


def test_by_default_late_updates_are_refused(start: Start, devices: Devices, tmp_path: Path) -> None:
    _, plan = a_round_without_the_slowest(start, devices, taking(tmp_path, late_rounds=0))
    devices["pi-3"].offer(plan)
    assert devices["pi-3"].hears(m.Rejected).round == 1
