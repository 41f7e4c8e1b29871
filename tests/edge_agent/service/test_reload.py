from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.config import AgentConfig, MemorySettings
from edge_agent.service.reload import AT_A_START, merge
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import BrokerSettings

OLD = AgentConfig("pi-1", "f", Path("a.jsonl"), Path("state"), BrokerSettings(port=1))


def test_what_can_be_used_at_once_is_and_the_rest_waits_for_a_restart() -> None:
    new = msgspec.structs.replace(
        OLD, device="pi-2", broker=BrokerSettings(port=2), threads=4, memory=MemorySettings(2**30)
    )
    change = merge(OLD, new)
    assert change.settings == msgspec.structs.replace(OLD, threads=4, memory=MemorySettings(2**30))
    assert (set(change.changed), set(change.left)) == ({"threads", "memory"}, {"device", "broker"})


def test_nothing_changes_where_nothing_changed() -> None:
    assert merge(OLD, OLD) == (OLD, (), ())


def test_data_that_is_not_there_is_refused_before_anything_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="put the texts there first"):
        merge(OLD, msgspec.structs.replace(OLD, data=tmp_path / "none"))
    (tmp_path / "there").touch()
    assert merge(OLD, msgspec.structs.replace(OLD, data=tmp_path / "there")).changed == ("data",)


def test_the_settings_of_a_start_are_settings() -> None:
    assert set(AT_A_START) <= set(AgentConfig.__struct_fields__)
