"""The settings of a fleet as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.enrolment.fleet import FleetSettings, check, encode, load
from edge_agent.wire.errors import ConfigError

WHOLE = FleetSettings("depot", ("gw.local", "10.0.0.1", "fd00::1"), 18883, 18443, 30)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(encode(WHOLE))
    assert load(path) == WHOLE
    path.write_bytes(b'fleet = "depot"\nhosts = ["gw.local"]\n')
    assert load(path) == FleetSettings("depot", ("gw.local",), broker_port=8883, enrolment_port=8443, device_days=90)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fleet": "a b"}, "fleet"),
        ({"fleet": "coordinator/x"}, "fleet"),
        ({"hosts": ()}, "at least one host"),
        ({"broker_port": 8443}, "must differ"),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(FleetSettings(**{"fleet": "depot", "hosts": ("gw",), **settings}), "init")


@pytest.mark.parametrize("line", ["device_days = 0", "device_days = 826", "broker_port = 70000", "more = 1"])
def test_settings_out_of_range_and_unknown_ones_name_the_file_and_the_page(tmp_path: Path, line: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(f'fleet = "depot"\nhosts = ["gw"]\n{line}\n')
    with pytest.raises(ConfigError, match=r"fleet\.toml: .*docs/gateway\.md"):
        load(path)
