"""One run of the updater against a real gateway; releases are files here, and real ones in the system tests."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from coordinator.enrolment import rollout as r
from coordinator.enrolment.release_files import agent_release, pack_release
from edge_agent.updating.gateway import Gateway
from edge_agent.updating.packs import Packs
from edge_agent.updating.settings import UpdaterConfig
from edge_agent.updating.spool import Spool
from edge_agent.updating.updater import Result, Updater
from edge_agent.wire import pack
from edge_agent.wire.errors import EnrolmentError, StoreError
from edge_agent.wire.updates import ReleaseOrder, UpdateReport
from tests.edge_agent.releases.test_idle import in_a_round
from tests.models import tiny_pack
from tests.update_gateway import UpdateGateway

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TERMS = r.Terms(1.0, 0.0, 1000.0)


@dataclass(frozen=True)
class Changed:
    kind: Literal["installed", "returned"]
    reason: str = ""


@dataclass
class Shelf:
    """Releases by version only: those in `broken` do not start. `dies_at` is where the process is killed."""

    current: str = "1.0"
    previous: str = ""
    broken: tuple[str, ...] = ()
    dies_at: str = ""
    interrupted: Changed | None = None
    fixed: str = ""
    installs: list[str] = field(default_factory=list)
    stops: int = 0

    def version(self) -> str:
        return self.current

    def install(self, bundle: Path) -> Changed:
        with tarfile.open(bundle) as tar:
            version = str(json.loads(tar.extractfile("manifest.json").read())["version"])  # type: ignore[union-attr]
        self.installs.append(version)
        if self.dies_at == "before the switch":
            raise KeyboardInterrupt
        if version in self.broken:
            return Changed("returned", f"{version} does not start")
        self.previous, self.current = self.current, version
        if self.dies_at == "after the switch":
            raise KeyboardInterrupt
        return Changed("installed")

    def go_back(self) -> Changed:
        if not self.previous:
            raise StoreError("there is no release before this one")
        if self.previous in self.broken:
            return Changed("returned", f"{self.previous} does not start")
        self.previous, self.current = self.current, self.previous
        if self.dies_at == "after the switch":
            raise KeyboardInterrupt
        return Changed("installed")

    def recover(self) -> Changed | None:
        change, self.interrupted = self.interrupted, None
        if change is not None and change.kind == "returned" and self.previous:
            self.current, self.previous = self.previous, ""
        return change

    @contextmanager
    def agent_stopped(self) -> Iterator[None]:
        self.stops += 1
        yield


@dataclass
class Board:
    fleet: UpdateGateway
    config: UpdaterConfig
    folder: Path
    shelf: Shelf = field(default_factory=Shelf)
    renewals: int = 0

    def updater(self, idle_s: float = 5.0) -> Updater:
        packs = Packs(self.config.state_dir)
        return Updater(Spool(self.folder), Gateway(self.config), self.shelf, packs, self._renew, idle_s)

    def run(self, idle_s: float = 5.0) -> Result:
        return self.updater(idle_s).run()

    def _renew(self) -> None:
        self.renewals += 1
        raise EnrolmentError("not today")

    def outcome(self) -> tuple[str, str]:
        device = self.fleet.store().entries()[0].rollout.devices["a"]
        return device.outcome, device.reason


@pytest.fixture
def board(fleet: UpdateGateway, config: UpdaterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    return Board(fleet, config, tmp_path / "spool")


def make_bundle(folder: Path, version: str, holds: str = "") -> Path:
    manifest = {"version": holds or version, "machine": platform.machine(), "python": PYTHON, "files": {}}
    data = json.dumps(manifest).encode()
    path = folder / f"rankfleet-agent-{version}-{platform.machine()}-cp{PYTHON.replace('.', '')}.tar"
    member = tarfile.TarInfo("manifest.json")
    member.size = len(data)
    with tarfile.open(path, "w") as tar:
        tar.addfile(member, io.BytesIO(data))
    return path


def roll_out(board: Board, version: str = "1.1") -> r.Release:
    folder = board.fleet.folder
    release = agent_release([make_bundle(folder, version)], folder / "releases")
    board.fleet.store().start(release, TERMS, (("a",),))
    return release


def test_nothing_is_done_without_an_order(board: Board) -> None:
    assert board.run() == Result("nothing", "release 1.0 is to stay")
    assert (board.fleet.reports, list(board.folder.iterdir())) == ([], [])


def test_a_release_is_installed_and_reported_once(board: Board) -> None:
    roll_out(board)
    assert board.run().kind == "installed"
    assert board.run().kind == "nothing"
    ((device, report),) = board.fleet.reports
    assert (device, report.version, report.outcome) == ("a", "1.1", "installed")
    assert board.outcome() == ("installed", "")
    assert list(board.folder.iterdir()) == []


def test_a_release_that_does_not_start_is_reported_as_returned(board: Board) -> None:
    board.shelf.broken = ("1.1",)
    roll_out(board)
    assert board.run().kind == "returned"
    assert board.outcome() == ("returned", "1.1 does not start")
    assert board.run().kind == "nothing"
    assert board.shelf.installs == ["1.1"]


def test_a_renewal_that_fails_does_not_keep_a_release_away(board: Board) -> None:
    board.fleet.faults.renew = True
    roll_out(board)
    assert board.run().kind == "installed"
    assert board.renewals == 1


def test_an_older_release_and_the_same_one_are_refused(board: Board) -> None:
    """Whoever has the gateway's place must not bring back what had a hole."""
    for version, offered in (("2.0", "1.9"), ("2.0", "2.0"), ("1.10", "1.9")):
        board.shelf.current = version
        order = ReleaseOrder("a.tar", "a" * 64, 10, offered, "agent", 1)
        outcome, reason = board.updater()._follow(order)
        assert (outcome, reason) == ("failed", f"refused: {offered} is not newer than {version}, which runs")
    assert board.shelf.installs == []


def test_a_bundle_that_holds_an_older_release_than_ordered_is_refused(board: Board) -> None:
    path = make_bundle(board.fleet.folder / "releases", "1.1", holds="0.9")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    order = ReleaseOrder(path.name, sha256, path.stat().st_size, "1.1", "agent", 1)
    reason = f"{path.name} should hold version 1.1, holds 0.9: make it anew"
    assert board.updater()._follow(order) == ("failed", reason)
    assert board.shelf.installs == []


def test_a_bundle_that_was_altered_on_the_gateway_is_reported(board: Board) -> None:
    release = roll_out(board)
    path = board.fleet.folder / "releases" / release.bundles[0].name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert board.run().kind == "failed"
    assert "came twice with another sha256" in board.outcome()[1]
    assert board.shelf.installs == []


def test_a_board_whose_agent_something_else_manages_is_unfit_and_downloads_nothing(board: Board) -> None:
    board.shelf.fixed = "managed by apt"
    board.fleet.faults.renew = True
    roll_out(board)
    assert board.run().kind == "unfit"
    assert board.outcome() == ("unfit", "managed by apt")
    assert (board.shelf.installs, board.fleet.sent_bytes, board.renewals) == ([], 0, 1)
    assert board.run().kind == "nothing"


# --- rounds ---


def test_a_round_is_not_disturbed(board: Board) -> None:
    roll_out(board)
    with in_a_round(board.config.state_dir, 60.0) as agent:
        assert board.run(idle_s=0.2).kind == "postponed"
        assert board.shelf.installs == []
        assert board.outcome() == ("pending", "")
        agent.kill()
    assert board.run().kind == "installed"
    assert board.fleet.sent_bytes == next((board.fleet.folder / "releases").glob("*.tar")).stat().st_size


def test_a_round_that_begins_while_a_release_is_staged_postpones_it(board: Board) -> None:
    roll_out(board)
    agents = []

    def install(_: Path) -> Changed:
        agents.append(in_a_round(board.config.state_dir, 60.0))
        raise StoreError("the agent is in a round still")

    board.shelf.install = install  # type: ignore[method-assign]
    try:
        assert board.run().kind == "postponed"
    finally:
        agents[0].kill()
        agents[0].wait()
    assert board.fleet.reports == []


# --- interruptions ---


def test_a_report_whose_answer_was_lost_is_delivered_again_and_counts_once(board: Board) -> None:
    roll_out(board)
    board.fleet.faults.lost_reports = 1
    with pytest.raises(EnrolmentError):
        board.run()
    before = board.fleet.store().entries()
    assert board.run().kind == "nothing"
    assert [report.outcome for _, report in board.fleet.reports] == ["installed", "installed"]
    assert board.fleet.store().entries() == before
    assert board.run().kind == "nothing"
    assert len(board.fleet.reports) == 2


@pytest.mark.parametrize("status", [503, 403, 302])
def test_a_report_is_kept_while_the_gateway_does_not_take_it(status: int, board: Board) -> None:
    roll_out(board)
    updater = board.updater()
    updater.spool.finish(UpdateReport("1.1", "x86_64", "3.11", "never.tar", 9, "failed"))
    board.fleet.faults.status = status
    with pytest.raises(EnrolmentError):
        updater.run()
    assert updater.spool.report() is not None
    board.fleet.faults.status = 0
    assert board.run().kind == "installed"  # the other report is refused for good, and dropped


@pytest.mark.parametrize(
    ("dies_at", "interrupted", "reported"),
    [
        ("after the switch", None, ("installed", "")),
        ("after the switch", Changed("installed"), ("installed", "")),
        ("after the switch", Changed("returned", "it does not start"), ("returned", "it does not start")),
    ],
)
def test_a_killed_run_is_brought_to_its_end(
    dies_at: str, interrupted: Changed | None, reported: tuple[str, str], board: Board
) -> None:
    roll_out(board)
    board.shelf.dies_at = dies_at
    with pytest.raises(KeyboardInterrupt):
        board.run()
    board.shelf.dies_at, board.shelf.interrupted = "", interrupted
    assert board.run().kind == "nothing"
    assert board.outcome() == reported
    assert len(board.shelf.installs) == 1


@pytest.mark.parametrize("interrupted", [None, Changed("returned", "it was interrupted")])
def test_a_run_that_was_killed_before_the_switch_starts_again(interrupted: Changed | None, board: Board) -> None:
    roll_out(board)
    board.shelf.dies_at = "before the switch"
    with pytest.raises(KeyboardInterrupt):
        board.run()
    board.shelf.dies_at, board.shelf.interrupted = "", interrupted
    assert board.run().kind == "installed"
    assert board.fleet.sent_bytes == next((board.fleet.folder / "releases").glob("*.tar")).stat().st_size


# --- the way back ---


def returned(board: Board) -> None:
    roll_out(board)
    board.run()
    board.fleet.store().change(1, r.order_return)


def test_a_return_that_the_gateway_orders_is_made(board: Board) -> None:
    returned(board)
    assert board.run().kind == "returned"
    assert board.shelf.current == "1.0"
    assert board.fleet.store().entries()[0].rollout.phase == "returned"
    assert board.run().kind == "nothing"


def test_a_return_that_was_killed_is_reported(board: Board) -> None:
    returned(board)
    board.shelf.dies_at = "after the switch"
    with pytest.raises(KeyboardInterrupt):
        board.run()
    assert board.run().kind == "nothing"
    assert board.outcome() == ("returned", "")


def test_a_return_that_fails_is_reported_and_ordered_again(board: Board) -> None:
    returned(board)
    board.shelf.broken = ("1.0",)
    assert board.run().kind == "failed"
    assert board.outcome() == ("failed", "1.0 does not start")
    board.shelf.broken = ()
    assert board.run().kind == "returned"


# --- packs ---


def test_a_pack_is_installed_and_returned(board: Board) -> None:
    release = pack_release(tiny_pack(), board.fleet.folder / "releases")
    board.fleet.store().start(release, TERMS, (("a",),))
    assert board.run().kind == "installed"
    pack.verify(board.config.state_dir / "packs" / release.version)
    board.fleet.store().change(1, r.order_return)
    assert board.run().kind == "returned"
    assert board.shelf.stops == 1
    assert not (board.config.state_dir / "packs" / release.version).exists()


def test_a_pack_that_fails_its_trial_is_reported_and_leaves_nothing(board: Board) -> None:
    release = pack_release(tiny_pack(), board.fleet.folder / "releases")
    board.fleet.store().start(r.Release("pack", "0" * 16, release.bundles), TERMS, (("a",),))
    assert board.run().kind == "failed"
    assert "its manifest says" in board.outcome()[1]
    assert not (board.config.state_dir / "packs").exists()
