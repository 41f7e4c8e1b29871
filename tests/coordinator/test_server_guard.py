"""A coordinator among devices that send too much, or nonsense."""

from __future__ import annotations

import msgspec
import numpy as np

from coordinator import events
from coordinator.config import AggregationSettings, CoordinatorConfig, GuardSettings
from edge_agent.wire import codec
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import HEAD
from tests.coordinator.devices import Devices, Start, an_open_round


def test_a_device_that_floods_is_dropped_and_named_and_the_others_go_on(
    start: Start, devices: Devices, config: CoordinatorConfig
) -> None:
    changed = msgspec.structs.replace(config, guard=GuardSettings(messages_per_s=3.0))
    gateway = start(changed)
    flood = devices["pi-2"]
    for _ in range(200):
        flood.say(m.Progress(1, "train", 1, 2, 0.5, 61.5))
    assert gateway.tells(events.Flooding) == [events.Flooding("pi-2", 3.0)]
    others = [devices[name] for name in ("pi-1", "pi-3")]
    for device in others:
        device.join()
    assert {event.device for event in gateway.tells(events.Joined, 2)} == {"pi-1", "pi-3"}
    assert len(gateway.told(events.Training)) < 40, "what is too much is not even read"
    assert gateway.told(events.Flooding) == [events.Flooding("pi-2", 3.0)], "it is named once"


def test_the_median_of_a_round_leaves_out_what_one_device_makes_up(
    start: Start, devices: Devices, config: CoordinatorConfig
) -> None:
    changed = msgspec.structs.replace(config, aggregation=AggregationSettings("median"))
    _, plans = an_open_round(start, devices, changed=changed)
    changes = []
    for name, device in devices.items():
        update = device.trained(plans[name])
        if name == "pi-2":
            for table in update.changes.tables.values():
                table.scales[:] *= 8
        changes.append(update.changes.rows())
        device.offer(plans[name], update)
        device.hears(m.Acknowledged)
    plan = devices["pi-1"].hears(m.Plan)
    delta = codec.decode_delta(devices["pi-1"].pull(plan.deltas[0]), devices["pi-1"].layout)
    expected = np.median([one[HEAD][:, :-1] for one in changes], axis=0)
    np.testing.assert_allclose(delta.changes.rows()[HEAD][:, :-1], expected, atol=0.02)
