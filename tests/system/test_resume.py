"""Whatever is killed or interrupted, at whatever moment: the run goes on to the same end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

from coordinator import events
from tests.system.fleet import (
    DEVICES,
    ROUNDS,
    STOP_S,
    Fleet,
    Process,
    Settings,
    assert_ends_well,
    assert_stops,
    fleet,
    of_kind,
    told,
    wait_event,
    wait_until,
)

LONG_ROUNDS = Settings(training={"local_steps": 50})
"""Rounds of seconds, so that there is time to fall into one."""


def test_a_killed_coordinator_goes_on_where_it_was(tmp_path: Path) -> None:
    with fleet(tmp_path, LONG_ROUNDS) as one:
        coordinator, agents = one.start_coordinator(), one.start_agents()
        wait_event(coordinator, events.Closed)
        wait_event(coordinator, events.Received, lambda event: event.round == 2)
        coordinator.kill()
        again = one.start_coordinator()
        assert_ends_well(again, agents)
        assert_complete(one)
        trained_again = [event for event in of_kind(told(again), events.Received) if event.round == 1]
        assert not trained_again


def test_a_killed_agent_joins_again_in_the_same_round(tmp_path: Path) -> None:
    with fleet(tmp_path, LONG_ROUNDS) as one:
        coordinator, agents = one.start_coordinator(), one.start_agents()
        agents["pi-2"].says("-> training")
        agents["pi-2"].kill()
        agents["pi-2"] = one.start_agent("pi-2")
        assert_ends_well(coordinator, agents)
        assert_complete(one)


def test_a_killed_trainer_costs_neither_the_agent_nor_the_round(tmp_path: Path) -> None:
    """As when the kernel ends it for want of memory, once."""
    with fleet(tmp_path, LONG_ROUNDS) as one:
        coordinator, agents = one.start_coordinator(), one.start_agents()
        trainer(agents["pi-2"]).kill()
        agents["pi-2"].says("killed by signal 9")
        assert_ends_well(coordinator, agents)
        assert not of_kind(told(coordinator), events.Refused)
        assert_complete(one)


def test_agents_may_be_there_first_and_be_interrupted_at_every_stage(tmp_path: Path) -> None:
    with fleet(tmp_path, LONG_ROUNDS) as one:
        agents = one.start_agents()
        for agent in agents.values():
            agent.says(f"no broker at 127.0.0.1:{one.port}")
        stop_and_start(one, agents, Process.terminate)
        coordinator = one.start_coordinator()
        agents["pi-1"].says("joining -> fetching")
        stop_and_start(one, agents, Process.press_ctrl_c)
        agents["pi-1"].says("fetching -> measuring")
        stop_and_start(one, agents, Process.terminate)
        agents["pi-1"].says("-> training")
        stop_and_start(one, agents, Process.press_ctrl_c)
        assert_ends_well(coordinator, agents)
        assert_complete(one)


def test_an_interrupted_coordinator_goes_on_where_it_was(tmp_path: Path) -> None:
    with fleet(tmp_path, LONG_ROUNDS) as one:
        coordinator = one.start_coordinator()
        wait_event(coordinator, events.Listening)
        assert_stops(coordinator, Process.press_ctrl_c)
        coordinator, agents = one.start_coordinator(), one.start_agents()
        wait_event(coordinator, events.Training)
        assert_stops(coordinator, Process.terminate)
        coordinator = one.start_coordinator()
        wait_event(coordinator, events.Closed, lambda event: event.record.round == ROUNDS)
        assert_stops(coordinator, Process.press_ctrl_c)
        assert_ends_well(one.start_coordinator(), agents)
        assert_complete(one)


def test_a_finished_run_started_again_ends_at_once(tmp_path: Path) -> None:
    with fleet(tmp_path, Settings(rounds=1, devices=("pi-1",))) as one:
        one.run()
        again = one.start_coordinator()
        assert again.wait() == 0
        assert not of_kind(told(again), events.Opened)
        assert of_kind(told(again), events.Done)[0].missing == ()


def stop_and_start(one: Fleet, agents: dict[str, Process], stop: Callable[[Process], None]) -> None:
    assert_stops(agents["pi-1"], stop)
    agents["pi-1"] = one.start_agent("pi-1")


def assert_complete(one: Fleet) -> None:
    """Every round once, with everyone in it."""
    assert [(record.round, record.contributors) for record in one.records()] == [
        (number, DEVICES) for number in range(1, ROUNDS + 1)
    ]


def trainer(agent: Process) -> psutil.Process:
    """The process in which an agent trains its first round."""
    agent.says("-> training")
    found: list[psutil.Process] = []

    def look() -> bool:
        found.extend(agent.children())
        return bool(found)

    wait_until(look, STOP_S, lambda: f"{agent.name} has no trainer process")
    return found[0]
