"""Services that fail are started again, ever more seldom; all are stopped, the last one first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from coordinator.enrolment import gateway as gateways
from coordinator.enrolment.gateway import FIRST_DELAY_S, LONGEST_DELAY_S, STABLE_S, UPKEEP_S, Gateway, _Watch
from edge_agent.wire.errors import ConfigError, LinkError


@dataclass
class Part:
    """A service that does what a test says; `told` is shared by all of them."""

    name: str
    told: list[str]
    reason: str | None = None
    error: Exception | None = None

    def start(self) -> None:
        self.told.append(f"start {self.name}")
        if self.error is not None:
            raise self.error
        self.reason = None

    def stop(self) -> None:
        self.told.append(f"stop {self.name}")

    def failed(self) -> str | None:
        return self.reason


@dataclass
class Clock:
    now_s: float = 0.0
    at: dict[int, Callable[[], None]] = field(default_factory=dict)
    steps: int = 0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.steps += 1
        self.at.get(self.steps, lambda: None)()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(gateways.time, "sleep", one.sleep)
    return one


def nothing() -> None:
    pass


def test_services_start_in_order_and_stop_the_other_way_round(clock: Clock) -> None:
    told: list[str] = []
    clock.at[2] = interrupt
    with pytest.raises(KeyboardInterrupt):
        Gateway([Part("broker", told), Part("rounds", told)], told.append, nothing, clock).run()
    assert told == ["start broker", "start rounds", "stop rounds", "stop broker"]


def test_where_one_cannot_start_to_begin_with_the_others_are_stopped_and_the_reason_is_the_error() -> None:
    told: list[str] = []
    parts = [Part("broker", told), Part("rounds", told, error=ConfigError("port 8883 is taken")), Part("more", told)]
    with pytest.raises(ConfigError, match="port 8883 is taken"):
        Gateway(parts, told.append, nothing).run()
    assert told == ["start broker", "start rounds", "stop rounds", "stop broker"]


def test_every_service_is_stopped_even_if_one_resists(clock: Clock) -> None:
    told: list[str] = []
    resisting = Part("rounds", told)
    resisting.stop = interrupt  # type: ignore[method-assign]
    clock.at[1] = interrupt
    with pytest.raises(KeyboardInterrupt):
        Gateway([Part("broker", told), resisting], told.append, nothing, clock).run()
    assert told[-1] == "stop broker"


def test_what_fails_is_started_again_after_delays_that_double_up_to_a_limit() -> None:
    told: list[str] = []
    clock = Clock()
    part = Part("rounds", told, reason="status 1")
    gateway, watch, starts = Gateway([part], told.append, nothing, clock), _Watch(part, 0.0), []
    while len(starts) < 11:
        clock.now_s += 0.5
        before = told.count("start rounds")
        gateway.look(watch)
        if told.count("start rounds") > before:
            starts.append(clock.now_s)
            part.reason = "status 1"
    delays = [later - earlier for earlier, later in pairwise(starts)]
    assert delays[:3] == pytest.approx([2.5, 4.5, 8.5])
    assert delays[-1] == pytest.approx(LONGEST_DELAY_S + 0.5)
    assert told[0] == "rounds: status 1; it is started again in 1 s"


def test_what_held_for_a_while_is_started_again_soon() -> None:
    told: list[str] = []
    clock = Clock(now_s=STABLE_S)
    part = Part("broker", told, reason="status -9")
    watch = _Watch(part, 0.0, delay_s=LONGEST_DELAY_S)
    Gateway([part], told.append, nothing, clock).look(watch)
    assert watch.due_s == STABLE_S + FIRST_DELAY_S


def test_one_that_cannot_be_started_again_is_tried_later() -> None:
    told: list[str] = []
    clock = Clock()
    part = Part("broker", told, reason="status 1", error=LinkError("port 8883 is taken"))
    gateway, watch = Gateway([part], told.append, nothing, clock), _Watch(part, 0.0)
    for now_s in (0.0, 1.0, 2.9, 3.0):
        clock.now_s = now_s
        gateway.look(watch)
    assert [line for line in told if ":" in line] == [
        "broker: status 1; it is started again in 1 s",
        "broker: port 8883 is taken; it is started again in 2 s",
        "broker: port 8883 is taken; it is started again in 4 s",
    ]
    part.error = None
    clock.now_s = 7.0
    gateway.look(watch)
    assert watch.due_s is None and part.failed() is None


def test_upkeep_comes_every_few_hours_and_its_failure_is_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "POLL_S", UPKEEP_S / 2)
    said: list[str] = []

    def upkeep() -> None:
        raise ConfigError("no room")

    clock.at[5] = interrupt
    with pytest.raises(KeyboardInterrupt):
        Gateway([], said.append, upkeep, clock).run()
    assert said == ["upkeep: no room", "upkeep: no room"]


def test_without_a_spare_service_the_others_serve_and_it_is_tried_again(clock: Clock) -> None:
    told: list[str] = []
    page = Part("page", told, error=LinkError("port 8480 is taken"))
    clock.at[3] = lambda: setattr(page, "error", None)
    clock.at[20] = interrupt
    with pytest.raises(KeyboardInterrupt):
        Gateway([Part("broker", told), page], told.append, nothing, clock, spare=(page,)).run()
    assert told == [
        "start broker", "start page", "page: port 8480 is taken; it is started again in 1 s", "stop page", "start page",
        "stop page", "stop broker",
    ]  # fmt: skip


def test_a_service_is_started_anew_when_it_is_asked_for(clock: Clock) -> None:
    told: list[str] = []
    rounds = Part("rounds", told)
    gateway = Gateway([Part("broker", told), rounds], told.append, nothing, clock)
    clock.at[2] = lambda: gateway.again(rounds)
    clock.at[5] = interrupt
    with pytest.raises(KeyboardInterrupt):
        gateway.run()
    assert told == ["start broker", "start rounds", "stop rounds", "start rounds", "stop rounds", "stop broker"]
