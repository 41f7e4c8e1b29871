"""Boards as processes update themselves with real bundles of this very checkout: canaries first, killed on the way."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.enrolment import rollout as r
from coordinator.enrolment.release_files import agent_release, pack_release
from edge_agent.wire import pack
from tests.models import tiny_pack
from tests.update_gateway import UpdateGateway

bundles = pytest.importorskip("deploy.board.bundle", exc_type=ImportError)
wheels_of_boards = importlib.import_module("deploy.board.wheels")
bundle_files = importlib.import_module("edge_agent.releases.bundle")
change = importlib.import_module("edge_agent.releases.change")
layouts = importlib.import_module("edge_agent.releases.layout")
managers = importlib.import_module("edge_agent.releases.service_manager")
releases = importlib.import_module("edge_agent.releases.store")

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c")
TERMS = r.Terms(threshold=1.0, soak_s=0.0, silent_s=3600.0)
GROUPS = (("a",), ("b", "c"))
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIMIT_S = 300.0
FAILS_WHEN_CURRENT = """
from pathlib import Path as _Path
if (_Path(sys.prefix).parent.parent / "current").resolve() == _Path(sys.prefix).resolve():
    raise SystemExit("this release does not run on this board")
"""
"""Behind the self-test: staged it passes, and fails once it is the current release."""


@dataclass
class Board:
    """A root folder with releases in it; its updater is the current release's own."""

    name: str
    root: Path
    config: Path

    @property
    def home(self) -> Path:
        return self.root / "opt" / "rankfleet"

    @property
    def version(self) -> str:
        release = releases.current(layouts.Board(self.root))
        assert release is not None
        return str(release.version)

    def start(self) -> subprocess.Popen[str]:
        command = [self.home / "current" / "bin" / "rankfleet", "agent", "update", self.config, "--prefix", self.root]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.Popen(
            [*map(str, command), "--idle-s", "5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env=environ, cwd="/",
        )  # fmt: skip

    def update(self) -> tuple[int, str]:
        """Exit status, and what was said."""
        updater = self.start()
        out, err = updater.communicate(timeout=LIMIT_S)
        assert "Traceback" not in err, err
        return updater.returncode, out + err

    def update_killed_when(self, seen: Callable[[], bool]) -> None:
        """Kills the updater, and all that it started, at a moment that can be seen on its disk."""
        updater = self.start()
        deadline_s = time.monotonic() + LIMIT_S
        while not seen():
            assert updater.poll() is None, updater.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
        os.killpg(updater.pid, signal.SIGKILL)
        updater.communicate()


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes bundles of any version of this checkout, with code behind its self-test."""
    folder = tmp_path_factory.mktemp("bundles")
    made = bundles.make(bundles.Order(wheels_of_boards.Target(platform.machine(), PYTHON)), folder)[0]
    unpacked = tmp_path_factory.mktemp("unpacked")
    bundle_files.unpack(made, unpacked)
    wheels = sorted((unpacked / "wheels").iterdir())
    own = next(path for path in wheels if path.name.startswith("rankfleet-"))
    others = [path for path in wheels if path != own]

    def make(version: str, behind_self_test: str = "") -> Path:
        work = Path(tempfile.mkdtemp(dir=folder))
        files = {f"wheels/{path.name}": path for path in (_changed(own, work, version, behind_self_test), *others)}
        digests = {name: pack.file_sha256(path) for name, path in files.items()}
        manifest = bundle_files.Manifest(version, platform.machine(), PYTHON, digests)
        bundles.write_tar(work / manifest.name, manifest, files)
        return work / manifest.name

    return make


def _changed(wheel: Path, folder: Path, version: str, behind_self_test: str) -> Path:
    """A wheel of rankfleet as another version."""
    old = wheel.name.split("-")[1]
    path = folder / wheel.name.replace(old, version, 1)
    names = []
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = source.read(name)
            named = name.replace(f"rankfleet-{old}.dist-info", f"rankfleet-{version}.dist-info")
            if named.endswith("/METADATA"):
                data = data.replace(f"\nVersion: {old}\n".encode(), f"\nVersion: {version}\n".encode(), 1)
            if named == "edge_agent/self_test.py":
                data += behind_self_test.encode()
            if not named.endswith("/RECORD"):
                target.writestr(named, data)
            names.append(named)
        record = next(name for name in names if name.endswith("/RECORD"))
        target.writestr(record, "".join(f"{name},,\n" for name in names))
    return path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpdateGateway]:
    gateway = UpdateGateway(tmp_path_factory.mktemp("gateway") / "fleet")
    yield gateway
    gateway.close()


@pytest.fixture(scope="module")
def boards(
    fleet: UpdateGateway, bundle_of: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Board]:
    """Three boards that run 1.0."""
    first = bundle_of("1.0", "")
    made = {}
    for name in NAMES:
        root = tmp_path_factory.mktemp(f"board-{name}")
        state_dir = root / "state"
        state_dir.mkdir()
        layout = layouts.Board(root)
        layout.home.mkdir(parents=True)
        assert change.Changer(layout, managers.service_manager(layout)).install(first).kind == "installed"
        made[name] = Board(name, root, fleet.configure(name, root / "etc" / "rankfleet", state_dir))
    return made


def start(fleet: UpdateGateway, bundle: Path) -> r.Release:
    release = agent_release([bundle], fleet.folder / "releases")
    fleet.store().start(release, TERMS, GROUPS)
    return release


def newest(fleet: UpdateGateway) -> r.Rollout:
    return fleet.store().entries()[0].rollout


def outcomes(fleet: UpdateGateway) -> dict[str, str]:
    return {name: device.outcome for name, device in newest(fleet).devices.items()}


def test_a_release_that_fails_on_the_canary_reaches_nobody_else(
    boards: dict[str, Board], fleet: UpdateGateway, bundle_of: Callable[[str, str], Path]
) -> None:
    start(fleet, bundle_of("1.1", FAILS_WHEN_CURRENT))
    assert boards["b"].update() == (0, "release 1.0 is to stay\n")
    status, said = boards["a"].update()
    assert status == 1
    assert "agent 1.1: returned" in said
    assert "this release does not run on this board" in said
    assert newest(fleet).phase == "stopped"
    for board in boards.values():
        assert board.update() == (0, "release 1.0 is to stay\n")
        assert board.version == "1.0"
    assert outcomes(fleet) == {"a": "returned", "b": "untouched", "c": "untouched"}
    assert [(device, report.outcome, report.version) for device, report in fleet.reports] == [("a", "returned", "1.0")]


def test_a_good_release_goes_through_the_groups_whatever_is_killed(
    boards: dict[str, Board], fleet: UpdateGateway, bundle_of: Callable[[str, str], Path]
) -> None:
    fleet.reports.clear()
    bundle = bundle_of("1.2", "")
    start(fleet, bundle)
    a, b, c = boards.values()

    fleet.faults.chunk_pause_s = 0.01
    fleet.sent_bytes = 0
    a.update_killed_when(lambda: any(path.stat().st_size > 2**20 for path in (a.home / "spool").glob("*.tar")))
    fleet.faults.chunk_pause_s = 0.0
    assert a.update()[0] == 0
    assert (a.version, outcomes(fleet)["a"]) == ("1.2", "installed")
    # What was on its way when the process died is lost with its buffers; the rest is not fetched again.
    assert fleet.sent_bytes < bundle.stat().st_size + 8 * 2**20

    b.update_killed_when((b.home / "releases" / "1.2" / "bin").exists)
    assert b.version == "1.0"
    assert b.update()[0] == 0
    assert (b.version, outcomes(fleet)["b"]) == ("1.2", "installed")

    c.update_killed_when((c.home / "upgrade.json").exists)
    assert c.update()[0] == 0
    assert (c.version, outcomes(fleet)["c"]) == ("1.2", "installed")

    assert newest(fleet).phase == "done"
    assert sorted((device, report.outcome) for device, report in fleet.reports) == [(n, "installed") for n in NAMES]
    assert not any(list((board.home / "spool").iterdir()) for board in boards.values())


def test_a_pack_is_tried_by_each_board_before_it_has_it(boards: dict[str, Board], fleet: UpdateGateway) -> None:
    release = pack_release(tiny_pack(), fleet.folder / "releases")
    fleet.store().start(release, TERMS, GROUPS)
    for board in boards.values():
        assert board.update() == (0, f"pack {release.version}: installed\n")
        pack.verify(board.root / "state" / "packs" / release.version)
    assert newest(fleet).phase == "done"


def test_a_return_by_order_brings_every_board_back(boards: dict[str, Board], fleet: UpdateGateway) -> None:
    fleet.store().change(2, r.order_return)
    for board in boards.values():
        assert board.update()[0] == 1
        assert board.version == "1.0"
        assert board.update() == (0, "release 1.0 is to stay\n")
    rollout = fleet.store().entries()[1].rollout
    assert rollout.phase == "returned"
    assert {device.outcome for device in rollout.devices.values()} == {"returned"}
