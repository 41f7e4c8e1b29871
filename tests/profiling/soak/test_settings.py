from __future__ import annotations

from pathlib import Path

from coordinator import config
from coordinator.plans import fleet_layout
from edge_agent.wire import pack
from profiling.soak.settings import Settings, coordinator_config, write_pack


def test_the_pack_is_whole_and_the_configuration_one_that_a_coordinator_takes(tmp_path: Path) -> None:
    for settings in (Settings(), Settings(devices=4, rounds=5)):
        found = coordinator_config(settings, tmp_path)
        write_pack(found.pack)
        assert pack.verify(found.pack).blocks == 2
        assert fleet_layout(found).ranks == 12
        config._check(tmp_path, found)
        assert config.decode(config.encode(found)).round == found.round


def test_one_process_serves_the_first_rounds_and_one_the_last() -> None:
    for rounds in (5, 15, 500):
        first, last = Settings(rounds=rounds).stops
        least, most = Settings(rounds=rounds).rounds_between_stops
        assert 0 < first < last < rounds
        assert 0 < least <= most <= last - first
