"""What Home Assistant is told: each board once, then how it is; all of it again after a reconnection."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from coordinator import events
from coordinator.home_assistant import HomeAssistant, config_topic, discovery, identifier, state_topic
from tests.wire.examples import REPORT

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True)
CONFIG, STATE = config_topic("depot", "pi-1"), state_topic("depot", "pi-1")
JOINED = events.Joined("pi-1", 40, 1000)


class Broker:
    """Keeps what is retained, unless it is away."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Any]] = []
        self.away = False

    def keep(self, topic: str, body: bytes) -> bool:
        if not self.away:
            self.kept.append((topic, json.loads(body)))
        return not self.away

    def topics(self) -> list[str]:
        topics = [topic for topic, _ in self.kept]
        self.kept.clear()
        return topics


def told(broker: Broker, *happened: events.Watched, assistant: HomeAssistant | None = None) -> HomeAssistant:
    passed: list[events.Watched] = []
    assistant = assistant or HomeAssistant("depot", broker.keep, passed.append)
    for event in happened:
        assistant(event)
    return assistant


def test_a_board_is_announced_once_and_then_told_how_it_is() -> None:
    broker = Broker()
    told(broker, JOINED, events.Received("pi-1", 3, REPORT), events.Left("pi-1", "the connection was lost"))
    assert [topic for topic, _ in broker.kept] == [CONFIG, STATE, STATE, STATE]
    assert broker.kept[1][1]["online"] is True and broker.kept[1][1]["ranks"] is None
    assert broker.kept[2][1]["ranks"] == REPORT.ranks and broker.kept[2][1]["round"] == 3
    assert (broker.kept[3][1]["online"], broker.kept[3][1]["note"]) == (False, "the connection was lost")


def test_what_changes_nothing_is_not_told() -> None:
    broker = Broker()
    assistant = told(broker, JOINED)
    broker.topics()
    told(broker, JOINED, events.Training("pi-1", 1, "train", 1, 2, 0.5, None), assistant=assistant)
    assert broker.topics() == []


def test_the_temperature_is_told_in_whole_degrees() -> None:
    broker = Broker()
    warm, as_warm, unknown = (events.Training("pi-1", 1, "train", 1, 2, 0.5, heat_c) for heat_c in (61.4, 60.9, None))
    told(broker, JOINED, warm, as_warm, unknown)
    assert [body["temperature_c"] for topic, body in broker.kept if topic == STATE] == [None, 61, None]


def test_what_cannot_be_sent_is_sent_later_the_newest_alone() -> None:
    broker = Broker()
    broker.away = True
    assistant = told(broker, JOINED, events.Left("pi-1", "first"), events.Left("pi-1", "second"))
    broker.away = False
    told(broker, events.Waiting("nobody is there"), assistant=assistant)
    assert broker.kept[-1][1]["note"] == "second"
    assert broker.topics() == [CONFIG, STATE]


def test_after_a_reconnection_everything_is_told_again() -> None:
    broker = Broker()
    assistant = told(broker, JOINED, events.Joined("pi-2", 1, 1))
    broker.topics()
    told(broker, events.Listening("gateway", 8883, "depot"), assistant=assistant)
    assert set(broker.topics()) == {CONFIG, STATE, config_topic("depot", "pi-2"), state_topic("depot", "pi-2")}


def test_every_event_goes_on_to_whoever_watches() -> None:
    passed: list[events.Watched] = []
    HomeAssistant("depot", lambda topic, body: False, passed.append)(JOINED)
    assert passed == [JOINED]


def test_a_discovery_names_what_a_state_has() -> None:
    broker = Broker()
    told(broker, JOINED)
    state = broker.kept[1][1]
    found = discovery("depot", "pi-1")
    assert found["stat_t"] == STATE and found["dev"]["name"] == "pi-1"
    assert found["cmps"].keys() == state.keys()
    for key, one in found["cmps"].items():
        assert f"value_json.{key}" in one["val_tpl"] and one["p"] in ("sensor", "binary_sensor")
    identifiers = [one["uniq_id"] for one in found["cmps"].values()]
    assert len(set(identifiers)) == len(identifiers)


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_boards_have_one_identifier(fleet: str, device: str, other_fleet: str, other: str) -> None:
    same = (fleet, device) == (other_fleet, other)
    assert (identifier(fleet, device) == identifier(other_fleet, other)) is same
    assert all(character.isalnum() or character in "_-" for character in identifier(fleet, device))
