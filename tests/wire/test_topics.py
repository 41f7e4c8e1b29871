from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from edge_agent.wire import topics
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.mqtt import LONGEST_TOPIC_BYTES

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True).filter(lambda name: name != "coordinator")


@given(NAMES, NAMES)
def test_the_coordinator_hears_every_device_of_its_fleet(fleet: str, device: str) -> None:
    assert topic_matches_sub(topics.every_up(fleet), topics.up(fleet, device))
    assert not topic_matches_sub(topics.every_up(fleet), topics.down(fleet, device))


@given(NAMES, NAMES)
def test_one_pattern_covers_what_a_device_uses(fleet: str, device: str) -> None:
    for topic in (topics.up(fleet, device), topics.down(fleet, device)):
        assert topic_matches_sub(f"rankfleet/+/{device}/#", topic)
        assert topics.device_of(topic) == device
        assert len(topic.encode()) <= LONGEST_TOPIC_BYTES


def test_longest_names_give_the_longest_topic() -> None:
    name = topics.check_name("n" * 64, "a device")
    assert len(topics.down(name, name)) == LONGEST_TOPIC_BYTES


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "-a", ".a", "a b", "ä", "a\n", "n" * 65, "coordinator"])
def test_names_that_cannot_stand_in_a_topic_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a device must be"):
        topics.check_name(name, "a device")
    assert not topics.is_name(name)


def test_good_names_pass() -> None:
    for name in ("pi-1", "0", "Zero_2.W"):
        assert topics.check_name(name, "a device") == name
        assert topics.is_name(name)
