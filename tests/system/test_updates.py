"""Boards as processes update themselves from a real gateway with real bundles of this very checkout: installed by its
installer, enrolled, canaries first, killed on the way.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from coordinator.enrolment import rollout as r
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.rollout_store import RolloutStore
from deploy.board import bundle
from deploy.board.wheels import Target
from edge_agent.enrolment.client import Gateway
from edge_agent.releases.bundle import Manifest, unpack
from edge_agent.releases.layout import Board as Layout
from edge_agent.releases.store import current
from edge_agent.wire import pack
from edge_agent.wire.errors import EnrolmentError
from edge_agent.wire.link import Disconnected
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from edge_agent.wire.tls import TlsSettings
from tests.brokers import require_mosquitto, wait_for
from tests.models import tiny_pack
from tests.system.sites import HOST, Site

pytestmark = pytest.mark.slow

CANARY, OTHER = NAMES = ("pi-1", "pi-2")
TERMS = ("--canary-device", CANARY, "--groups", "100%", "--threshold", "100%", "--soak-min", "0")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIMIT_S = 300.0
FAILS_WHEN_CURRENT = """
from pathlib import Path as _Path
if (_Path(sys.prefix).parent.parent / "current").resolve() == _Path(sys.prefix).resolve():
    raise SystemExit("this release does not run on this board")
"""
"""Behind the self-test: staged it passes, and fails once it is the current release."""


def bare_environment() -> dict[str, str]:
    """Without what would have a release find this checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@dataclass
class Board:
    """A root folder with releases in it; its updater is the current release's own."""

    name: str
    root: Path

    @property
    def config(self) -> Path:
        return self.root / "etc" / "rankfleet" / "agent.toml"

    @property
    def identity(self) -> Path:
        return self.root / "var" / "lib" / "rankfleet" / "identity"

    @property
    def home(self) -> Path:
        return self.root / "opt" / "rankfleet"

    @property
    def version(self) -> str:
        release = current(Layout(self.root))
        assert release is not None
        return str(release.version)

    def downloads(self) -> list[Path]:
        return list((self.home / "spool").glob("*.tar"))

    def start(self) -> subprocess.Popen[str]:
        command = [self.home / "current" / "bin" / "rankfleet", "agent", "update", self.config, "--prefix", self.root]
        return subprocess.Popen(
            [*map(str, command), "--idle-s", "5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env=bare_environment(), cwd="/",
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


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes bundles of any version of this checkout, with code behind its self-test."""
    folder = tmp_path_factory.mktemp("bundles")
    made = bundle.make(bundle.Order(Target(platform.machine(), PYTHON)), folder)[0]
    unpacked = tmp_path_factory.mktemp("unpacked")
    unpack(made, unpacked)
    wheels = sorted((unpacked / "wheels").iterdir())
    own = next(path for path in wheels if path.name.startswith("rankfleet-"))
    others = [path for path in wheels if path != own]

    def make(version: str, behind_self_test: str = "") -> Path:
        work = Path(tempfile.mkdtemp(dir=folder))
        files = {f"wheels/{path.name}": path for path in (_changed(own, work, version, behind_self_test), *others)}
        digests = {name: pack.file_sha256(path) for name, path in files.items()}
        manifest = Manifest(version, platform.machine(), PYTHON, digests)
        bundle.write_tar(work / manifest.name, manifest, files)
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
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_mosquitto()
    began_s = time.monotonic()
    made = Site(tmp_path_factory.mktemp("gateway"))
    try:
        yield made
    finally:
        made.stop()
    print(f"updates over the air: {time.monotonic() - began_s:.0f} s, the first bundle's wheels apart")  # noqa: T201 (for whoever runs this with `-s`)


@pytest.fixture(scope="module")
def boards(
    site: Site, bundle_of: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Board]:
    """Boards that the gateway's installer gave 1.0 and let in, and that have asked for orders."""
    folder = tmp_path_factory.mktemp("boards")
    first = bundle_of("1.0", "")
    shutil.copy(first, site.paths.releases / first.name)
    (folder / "names").write_text("\n".join(NAMES))
    site.operator("preapprove", str(folder / "names"))
    made = {}
    for name in NAMES:
        board = made[name] = Board(name, folder / name)
        (board.root / "etc").mkdir(parents=True)
        (board.root / "etc" / "os-release").write_text('ID=debian\nVERSION_ID="12"\n')
        install(site, board)
        assert board.update() == (0, "release 1.0 is to stay\n")
    return made


def install(site: Site, board: Board) -> None:
    """By the line that the gateway prints, without sudo: below its root folder, the board is ours."""
    line = site.operator("token", "--device", board.name)["line"].replace("sudo ", "") + f" --prefix {board.root}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=board.root, env=bare_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{board.name} is a member of the fleet" in done.stdout


def start(site: Site, *what: object) -> r.Rollout:
    site.done("update", "start", str(site.folder), *map(str, what), *TERMS)
    return newest(site)


def newest(site: Site) -> r.Rollout:
    with closing(RolloutStore(site.paths.rollouts)) as store:
        return store.entries()[0].rollout


def outcomes(site: Site) -> dict[str, str]:
    return {name: device.outcome for name, device in newest(site).devices.items()}


def reports(site: Site) -> dict[str, tuple[str, str]]:
    """Outcome and version that each board told last."""
    with closing(Registry(site.paths.database)) as registry:
        told = {name: msgspec.json.decode(report.body) for name, report in registry.reports().items()}
    return {name: (body["outcome"], body["version"]) for name, body in told.items()}


def test_a_release_that_fails_on_the_canary_reaches_nobody_else(
    boards: dict[str, Board], site: Site, bundle_of: Callable[[str, str], Path]
) -> None:
    start(site, "--release", bundle_of("1.1", FAILS_WHEN_CURRENT))
    assert boards[OTHER].update() == (0, "release 1.0 is to stay\n")
    status, said = boards[CANARY].update()
    assert status == 1
    assert "agent 1.1: returned" in said
    assert "this release does not run on this board" in said
    assert newest(site).phase == "stopped"
    for board in boards.values():
        assert board.update() == (0, "release 1.0 is to stay\n")
        assert board.version == "1.0"
    assert outcomes(site) == {CANARY: "returned", OTHER: "untouched"}
    assert reports(site) == {CANARY: ("returned", "1.0")}


def test_a_good_release_goes_through_the_groups_whatever_is_killed(
    boards: dict[str, Board], site: Site, bundle_of: Callable[[str, str], Path]
) -> None:
    """The first byte of what came before the kill is altered: only who goes on from there ends with a wrong sha256."""
    bundle_bytes = (made := bundle_of("1.2", "")).stat().st_size
    start(site, "--release", made)
    first, second = boards.values()

    first.update_killed_when(lambda: any(path.stat().st_size > 2**20 for path in first.downloads()))
    (download,) = first.downloads()
    assert 2**20 < download.stat().st_size < bundle_bytes
    with download.open("r+b") as file:
        file.write(b"?")
    status, said = first.update()
    assert status == 0 and "fetching it anew" in said, said
    assert (first.version, outcomes(site)[CANARY]) == ("1.2", "installed")

    second.update_killed_when((second.home / "releases" / "1.2" / "bin").exists)
    assert second.version == "1.0"
    second.update_killed_when((second.home / "upgrade.json").exists)
    assert second.update()[0] == 0
    assert (second.version, outcomes(site)[OTHER]) == ("1.2", "installed")

    assert newest(site).phase == "done"
    assert reports(site) == dict.fromkeys(NAMES, ("installed", "1.2"))
    assert not any(list((board.home / "spool").iterdir()) for board in boards.values())


def test_a_pack_is_tried_by_each_board_before_it_has_it(boards: dict[str, Board], site: Site) -> None:
    version = start(site, "--pack", tiny_pack()).release.version
    for board in boards.values():
        assert board.update() == (0, f"pack {version}: installed\n")
        pack.verify(board.root / "var" / "lib" / "rankfleet" / "state" / "packs" / version)
    assert newest(site).phase == "done"


def test_an_ordered_rotation_renews_the_certificate_and_the_old_one_is_refused(
    boards: dict[str, Board], site: Site, tmp_path: Path
) -> None:
    board = boards[OTHER]
    old = TlsSettings(site.paths.ca_certificate, tmp_path / "old.pem", tmp_path / "old.key")
    shutil.copy(board.identity / "device.pem", tmp_path / "old.pem")
    shutil.copy(board.identity / "device.key", tmp_path / "old.key")
    site.operator("rotate", board.name)
    status, said = board.update()
    assert status == 0 and said.startswith("release 1.2 is to stay\n") and "renewed; the new certificate" in said
    assert (board.identity / "device.pem").read_bytes() != (tmp_path / "old.pem").read_bytes()
    assert (board.identity / "device.key").read_bytes() != (tmp_path / "old.key").read_bytes()
    with pytest.raises(EnrolmentError, match="is revoked"):
        Gateway(site.url, site.paths.ca_certificate, tmp_path, old.certificate_file, old.key_file).ask("/v1/orders")
    link = MqttLink(MqttSettings(HOST, site.broker_port, board.name, board.name, "", tls=old), ())
    assert "revoked" in wait_for(link, Disconnected).reason
    link.close()
    assert board.update() == (0, "release 1.2 is to stay\n")
    (told,) = [one for one in site.operator("devices") if one["name"] == board.name]
    assert told["state"] == "enrolled" and not told["rotate"], told


def test_a_return_by_order_brings_every_board_back(boards: dict[str, Board], site: Site) -> None:
    site.done("update", "return", str(site.folder), "--rollout", "2")
    for board in boards.values():
        assert board.update()[0] == 1
        assert board.version == "1.0"
        assert board.update() == (0, "release 1.0 is to stay\n")
    with closing(RolloutStore(site.paths.rollouts)) as store:
        rollout = store.entries()[1].rollout
    assert rollout.phase == "returned"
    assert {device.outcome for device in rollout.devices.values()} == {"returned"}
