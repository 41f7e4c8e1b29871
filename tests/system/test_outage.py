"""A broker that is away for minutes: everybody is back soon after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator import events
from tests.brokers import mosquitto
from tests.system.fleet import USERS, Settings, assert_ends_well, fleet, of_kind, told, wait_until
from tests.system.kill_matrix import RECOVERY, RECOVERY_S

OUTAGE_S = 120.0
"""Delays between attempts reach their longest within the first half minute."""
LOADED = 2
"""A machine that does other things too may take so many times as long."""


@pytest.mark.slow
def test_everybody_is_back_within_seconds_of_a_broker_that_was_away_for_minutes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with mosquitto(tmp_path, users=USERS) as broker:
        settings = Settings(port=broker.port, round={"grace_s": 60.0})
        with fleet(tmp_path / "fleet", settings) as one:
            coordinator, agents = one.start_coordinator(), one.start_agents()
            agents["pi-2"].says("catching_up -> training")
            broker.kill()
            time.sleep(OUTAGE_S)
            before = len(of_kind(told(coordinator), events.Listening))
            broker.start()
            began_s = time.monotonic()
            wait_until(
                lambda: (
                    len(of_kind(told(coordinator), events.Listening)) > before
                    and all(agent.stderr.count("connected to the broker") > 1 for agent in agents.values())
                ),
                LOADED * RECOVERY_S,
                lambda: "\n".join(agent.stderr for agent in agents.values()),
            )
            record_property(RECOVERY, round(time.monotonic() - began_s, 1))
            assert_ends_well(coordinator, agents)
            assert all(record.contributors == one.settings.devices for record in one.records())
