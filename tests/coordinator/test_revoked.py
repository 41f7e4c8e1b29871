"""Devices that are revoked while a coordinator runs: what they say and gave is nothing, and nobody waits for them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator import events
from coordinator import revoked as revoked_names
from coordinator.config import CoordinatorConfig
from coordinator.revoked import REFRESH_S, RevokedDevices, encode, revoked_devices
from coordinator.run import DATABASE
from coordinator.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire.errors import ConfigError
from tests.coordinator.devices import Devices, Start, an_open_round, last_rounds
from tests.scripted import all_of, make_config


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(revoked_names, "REFRESH_S", 0.02)
    path = tmp_path / "revoked-devices"
    path.write_bytes(b"")
    return path


@pytest.fixture
def config(tmp_path: Path, listed: Path) -> CoordinatorConfig:
    return msgspec.structs.replace(make_config(tmp_path / "run"), revoked_file=listed)


def test_a_round_goes_on_at_once_without_a_device_that_had_not_answered(
    start: Start, devices: Devices, listed: Path
) -> None:
    gateway, plans = an_open_round(start, devices)
    for name in ("pi-1", "pi-2"):
        devices[name].offer(plans[name])
        devices[name].hears(m.Acknowledged)
    assert not gateway.told(events.Closed)
    listed.write_bytes(encode(frozenset({"pi-3"})))
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-2")
    assert gateway.told(events.Left) == [events.Left("pi-3", "its certificate is revoked")]


def test_what_a_device_gave_to_the_open_round_counts_no_more(
    start: Start, devices: Devices, listed: Path, config: CoordinatorConfig
) -> None:
    gateway, plans = an_open_round(start, devices)
    for name in ("pi-1", "pi-3"):
        devices[name].offer(plans[name])
        devices[name].hears(m.Acknowledged)
    listed.write_bytes(encode(frozenset({"pi-3"})))
    gateway.tells(events.Left)
    devices["pi-2"].offer(plans["pi-2"])
    devices["pi-2"].hears(m.Acknowledged)
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-2")
    gateway.crash()
    store = Store(config.run_dir / DATABASE, read_only=True)
    assert store.counted("pi-1") == (1,)
    assert store.counted("pi-3") == ()
    store.close()


def test_what_a_revoked_device_says_is_dropped_and_the_run_ends_without_it(
    start: Start, devices: Devices, listed: Path, caplog: pytest.LogCaptureFixture, quick: None
) -> None:
    gateway, plans = an_open_round(start, devices)
    shut_out = devices.pop("pi-3")
    listed.write_bytes(encode(frozenset({"pi-3"})))
    gateway.tells(events.Left)
    for _ in range(3):
        shut_out.offer(plans["pi-3"])
        shut_out.say(m.Hello("0.1.0", None, 0))
    shut_out.hears_nothing(m.Acknowledged)
    all_of(devices, lambda device: device.offer(plans[device.name]))
    all_of(devices, lambda device: device.hears(m.Acknowledged))
    last_rounds(devices)
    assert gateway.ends() == ()
    assert len([line for line in caplog.messages if "dropped a message of pi-3" in line]) == 1


def test_a_restart_finds_what_was_revoked_meanwhile(start: Start, devices: Devices, listed: Path) -> None:
    gateway, plans = an_open_round(start, devices)
    devices["pi-3"].offer(plans["pi-3"])
    devices["pi-3"].hears(m.Acknowledged)
    gateway.crash()
    listed.write_bytes(encode(frozenset({"pi-3"})))
    again = start()
    assert again.tells(events.Left) == [events.Left("pi-3", "its certificate is revoked")]
    for name in ("pi-1", "pi-2"):
        devices[name].say(m.Hello("0.1.0", None, 0))
        devices[name].offer(plans[name])
        devices[name].hears(m.Acknowledged)
    assert again.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-2")


def test_the_file_is_read_again_after_a_while_and_its_last_names_hold_when_it_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, now_s = tmp_path / "names", [0.0]
    path.write_bytes(encode(frozenset({"b", "a"})))
    assert path.read_text() == "a\nb\n"
    names = RevokedDevices(path, lambda: now_s[0])
    path.write_text("c\n")
    assert names() == {"a", "b"}
    now_s[0] += REFRESH_S
    assert names() == {"c"}
    path.unlink()
    now_s[0] += REFRESH_S
    assert names() == {"c"}
    assert "1 names that were read before go on to hold" in caplog.text


def test_a_coordinator_does_not_start_without_the_file_that_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="revoked_file"):
        revoked_devices(tmp_path / "none", lambda: 0.0)
    assert revoked_devices(None, lambda: 0.0)() == frozenset()
