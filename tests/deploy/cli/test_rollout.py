"""An operator starts, watches, pauses and ends a rollout from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.enrolment.desk import Desk
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.rollout_store import RolloutStore
from deploy.cli.main import main
from edge_agent.wire.updates import Facts, UpdateReport
from tests.coordinator.enrolment.fleets import AUTHORITY, NOW, BoardKey, Told
from tests.coordinator.enrolment.test_release_files import bundle
from tests.gateways import founded
from tests.models import tiny_pack

PI = Facts("1.0", "aarch64", "3.11")


def store_of(fleet: Path) -> RolloutStore:
    return RolloutStore(FleetFolder(fleet).rollouts)


def desk_of(fleet: Path) -> Desk:
    return Desk(Registry(FleetFolder(fleet).database), AUTHORITY, Told(), "a test")


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A fleet of 8 boards and one of another kind, which have asked for orders; and who else asked once."""
    folder, _ = founded(tmp_path / "fleet")
    store, desk = store_of(folder.root), desk_of(folder.root)
    for name in (*(f"pi-{i}" for i in range(8)), "pc-0", "put-out"):
        request = desk.submit(desk.issue_token(NOW), name, BoardKey.make().request_pem, NOW)
        desk.approve(request.id, NOW)
        store.release_for(name, Facts("1.0", "x86_64", "3.12") if name == "pc-0" else PI)
    store.release_for("never-enrolled", PI)
    desk.revoke("put-out", NOW)
    return folder.root


def update(*words: object) -> int:
    return main(["coordinator", "update", *map(str, words)])


def start(fleet: Path, *words: object) -> int:
    return update("start", fleet, "--release", bundle(fleet.parent / "in"), *words)


def test_a_rollout_is_dealt_into_groups_and_shown(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(fleet, "--canary-device", "pi-3", "--groups", "50%", "1.0") == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "rollout 1: agent 1.1, running",
        "  group 1 of 3, open, 1 devices: 1 pending",
        "  group 2 of 3, closed, 4 devices: 4 pending",
        "  group 3 of 3, closed, 4 devices: 4 pending",
        "  no bundle fits pc-0: x86_64 with Python 3.12",
    ]
    store = store_of(fleet)
    assert store.release_for("pi-3", PI) is not None
    assert store.release_for("pi-4", PI) is None


def test_the_terms_are_those_of_the_options(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--canary", 2, "--threshold", "75%", "--soak-min", 5, "--silent-h", 3, "--json")
    assert start(fleet, *options) == 0
    rollout = json.loads(capsys.readouterr().out)["rollout"]
    assert rollout["terms"] == {"threshold": 0.75, "soak_s": 300.0, "silent_s": 10800.0}
    assert [len(group) for group in rollout["groups"]] == [2, 1, 6]


def test_a_rollout_that_stopped_is_seen_by_the_exit_status(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(fleet, "--canary-device", "pi-3")
    assert update("status", fleet) == 0
    store = store_of(fleet)
    order = store.release_for("pi-3", PI)
    assert order is not None
    store.take_report("pi-3", UpdateReport("1.0", "aarch64", "3.11", order.name, 1, "returned", "it did not start"))
    capsys.readouterr()
    assert update("status", fleet) == 1
    out = capsys.readouterr().out
    assert "rollout 1: agent 1.1, stopped: group 1: 1 of 1 devices failed" in out
    assert "  pi-3: returned, it did not start" in out
    assert "group 2 of 3, closed, 2 devices: 2 untouched" in out


def test_the_operator_pauses_resumes_returns_and_stops(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(fleet)
    for words, phase in (
        (("pause",), "paused"),
        (("resume",), "running"),
        (("stop", "--rollout", 1), "stopped"),
        (("return",), "returned"),
    ):
        capsys.readouterr()
        assert update(words[0], fleet, *words[1:]) == 0
        assert f"rollout 1: agent 1.1, {phase}" in capsys.readouterr().out
    assert update("pause", fleet) == 1
    assert "expected a rollout that is running, this one is returned" in capsys.readouterr().err


def test_a_pack_is_rolled_out_beside_an_agent(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(fleet) == 0
    assert update("start", fleet, "--pack", tiny_pack()) == 0
    assert "rollout 2: pack" in capsys.readouterr().out
    assert len(list((fleet / "releases").glob("*.tar"))) == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--canary-device", "pi-99"), "unknown are pi-99"),
        (("--groups", "50%"), "rise to 100 %"),
    ],
)
def test_what_cannot_be_rolled_out_is_said(
    words: tuple[object, ...], why: str, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(fleet, *words) == 1
    assert why in capsys.readouterr().err


def test_a_fleet_that_nobody_asked_for_orders_yet_has_no_rollout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    founded(tmp_path / "fleet")
    assert start(tmp_path / "fleet") == 1
    assert "has asked this gateway for orders yet" in capsys.readouterr().err
    assert update("pause", tmp_path / "fleet") == 1
    assert "no rollout yet" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("status",), ("pause",), ("start", "--pack", "nowhere")])
def test_a_folder_that_is_no_fleets_is_refused_and_left_alone(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert update(words[0], tmp_path, *words[1:]) == 1
    assert "holds no fleet: make one with `rankfleet coordinator init" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_members_that_are_not_put_out_take_part(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(fleet, "--json") == 0
    devices = json.loads(capsys.readouterr().out)["rollout"]["devices"]
    assert sorted(devices) == sorted((*(f"pi-{i}" for i in range(8)), "pc-0"))
    assert update("stop", fleet) == 0
    assert start(fleet, "--canary-device", "put-out") == 1
    assert "unknown are put-out" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "101%", "many", "-5%"])
def test_a_share_is_more_than_nothing_and_at_most_all(share: str, fleet: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        start(fleet, "--threshold", share)
    assert caught.value.code == 2
