"""The installer: which boards it takes, where it gets the agent from, and what it leaves."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from coordinator.enrolment.authority import Authority
from deploy.board.own_wheel import CLONE
from deploy.cli.fleet import TEMPLATE
from edge_agent.releases.bundle import Manifest
from tests.bundle_gateway import CA, Gateway, script, serving
from tests.bundles import PYTHON, small_bundle
from tests.edge_agent.releases.boards import version_of
from tests.models import tiny_pack

SCRIPT = script("https://127.0.0.1:9", broker_port=9883)
BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with serving(tmp_path / "gateway") as made:
        yield made


class Board:
    """A tree with an os-release, and programs of its own in front of this system's."""

    def __init__(self, folder: Path) -> None:
        self.root, self.programs, self.script = folder / "board", folder / "programs", folder / "install.sh"
        (self.root / "etc").mkdir(parents=True)
        self.programs.mkdir()
        self.release(BOOKWORM)
        self.script.write_text(SCRIPT)

    def release(self, text: str) -> None:
        (self.root / "etc" / "os-release").write_text(text)

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.programs / name).chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            ["sh", str(self.script), "--prefix", str(self.root), *arguments],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={**environ, "PATH": f"{self.programs}:{environ['PATH']}"},
        )  # fmt: skip

    def refuses(self, *arguments: str, status: int = 1) -> str:
        done = self.run("--no-join", *arguments)
        assert done.returncode == status, done.stdout + done.stderr
        assert not (self.root / "opt").exists()
        return done.stderr.removeprefix("rankfleet: ").strip()

    @property
    def current(self) -> Path:
        return self.root / "opt" / "rankfleet" / "current"


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_it_passes_shellcheck(tmp_path: Path) -> None:
    shellcheck = shutil.which("shellcheck")
    assert shellcheck is not None, "apt install shellcheck"
    (tmp_path / "install.sh").write_text(SCRIPT)
    for path in (TEMPLATE, tmp_path / "install.sh"):
        done = subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ('ID=raspbian\nVERSION_ID="12"\nPRETTY_NAME="Raspbian 12"\n', "Raspbian 12 is a 32-bit system.*Imager"),
        ('ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n', "Debian 11 is too old: write the 64-bit"),
        ("ID=alpine\nVERSION_ID=3.20.1\n", "another C library.*use Debian or Ubuntu"),
        ('ID=ubuntu\nVERSION_ID="20.04"\n', "too old: install Ubuntu 22.04 or 24.04; a Jetson: flash JetPack 6"),
        ('ID=fedora\nVERSION_ID=41\nPRETTY_NAME="Fedora Linux 41"\n', "Fedora Linux 41 is not among the systems"),
    ],
)
def test_other_systems_are_refused_by_name_with_what_to_do(release: str, words: str, board: Board) -> None:
    board.release(release)
    assert re.search(words, board.refuses())


@pytest.mark.parametrize(("machine", "words"), [("armv7l", "32-bit kernel (armv7l)"), ("riscv64", "only aarch64 and")])
def test_other_processors_are_refused(machine: str, words: str, board: Board) -> None:
    board.program("uname", f"echo {machine}")
    assert words in board.refuses()


def test_what_the_board_lacks_is_said_with_how_to_get_it(board: Board) -> None:
    board.program("df", "echo; echo /dev/root 1 1 102400 1 /")
    assert "100 MiB free, 500 are needed" in board.refuses()
    board.program("python3", 'case "$*" in *sys.version*) echo 3.9 ;; esac')
    assert "python3 is Python 3.9, the agent needs 3.10 to 3.14" in board.refuses()
    board.program("python3", 'case "$*" in *sys.version*) echo 3.11 ;; *calcsize*) echo 4 ;; esac')
    assert "the system's programs have 32" in board.refuses()
    board.program("python3", "exit 1")
    assert board.refuses().endswith("sudo apt install python3")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--token"], "--token needs a value"),
        (["--nonsense"], "--nonsense is no option"),
        (["--budget-mib", "much"], "not 'much'"),
        (["--device", "a b"], "not 'a b'"),
        (["--purge"], "belongs to --uninstall"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], words: str, board: Board) -> None:
    assert words in board.refuses(*arguments, status=2)


def test_without_a_token_it_asks_for_one(board: Board) -> None:
    done = board.run()
    assert done.returncode == 2 and "--token TOKEN or --no-join" in done.stderr


def test_it_installs_from_the_gateway_upgrades_and_leaves_nothing(board: Board, gateway: Gateway) -> None:
    before = set(board.root.rglob("*"))
    for version in ("0.9", "0.10"):
        gateway.publish(small_bundle(gateway.folder, version))
    board.script.write_text(gateway.installer())
    done = board.run("--no-join", "--device", "pi-7", "--budget-mib", "300")
    assert done.returncode == 0, done.stderr
    assert version_of(board.current) == "0.10"
    config = (board.root / "etc" / "rankfleet" / "agent.toml").read_text()
    assert 'device = "pi-7"' in config and f"budget_bytes = {300 * 2**20}" in config
    assert (board.root / "var/lib/rankfleet/identity/ca.pem").read_text() == CA.strip() + "\n"
    gateway.publish(small_bundle(gateway.folder, "0.11"))
    done = board.run("--upgrade")
    assert done.returncode == 0 and version_of(board.current) == "0.11", done.stderr
    done = board.run("--uninstall", "--purge")
    assert done.returncode == 0, done.stderr
    left = set(board.root.rglob("*")) - before
    assert not [path for path in left if "rankfleet" in str(path.relative_to(board.root))]
    assert "nothing is installed" in board.run("--uninstall", "--purge").stderr


def test_whoever_has_a_token_asks_to_be_let_in_a_former_member_too(board: Board, gateway: Gateway) -> None:
    gateway.publish(small_bundle(gateway.folder, "1"))
    board.script.write_text(gateway.installer())
    config = board.root / "etc" / "rankfleet" / "agent.toml"
    joins = f"1 agent join {config} --token abc\n"
    assert joins in board.run("--token", "abc").stdout
    (board.root / "var/lib/rankfleet/identity/device.pem").write_text("a certificate")
    assert joins in board.run("--token", "abc").stdout
    done = board.run()
    assert done.returncode == 0 and "agent join" not in done.stdout, done.stderr
    assert "has joined the fleet depot already" in done.stdout


def test_a_gateway_that_is_not_the_fleets_is_not_believed(board: Board, gateway: Gateway) -> None:
    gateway.publish(small_bundle(gateway.folder, "1"))
    board.script.write_text(gateway.installer(Authority.create("depot", datetime.now(timezone.utc))))
    assert "is not the one of this fleet, or the clock is wrong" in board.refuses()
    board.script.write_text(SCRIPT)
    assert "cannot be reached: is it on" in board.refuses()


def test_a_bundle_that_arrives_altered_or_is_missing_is_refused(board: Board, gateway: Gateway) -> None:
    board.script.write_text(gateway.installer())
    assert "rankfleet deploy bundle --target" in board.refuses()
    gateway.publish(small_bundle(gateway.folder, "1"), sha256="0" * 64)
    assert "did not arrive as it was sent" in board.refuses()


def test_it_installs_from_a_stick_with_its_pack(board: Board, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    for version in ("0.9", "0.10"):
        small_bundle(stick, version)
    names = [path.name for path in tiny_pack().iterdir()]
    subprocess.run(["tar", "-cf", stick / "rankfleet-pack-1.tar", "-C", tiny_pack(), *names], check=True)
    sums = "".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in stick.iterdir())
    (stick / "SHA256SUMS").write_text(sums)
    board.program("curl", "echo no network >&2; exit 6")
    done = board.run("--no-join", "--bundle", str(stick))
    assert done.returncode == 0, done.stderr
    assert version_of(board.current) == "0.10"
    (pack,) = (board.root / "var/lib/rankfleet/state/packs").iterdir()
    assert {path.name for path in pack.iterdir()} == set(names)
    again = board.run("--no-join", "--bundle", str(stick))
    assert again.returncode == 0 and "it was installed already" in again.stdout


def test_a_stick_that_is_damaged_or_for_other_boards_is_refused(board: Board, tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "stick", "1")
    (path.parent / "SHA256SUMS").write_text(f"{'0' * 64}  {path.name}\n")
    assert "is not as it says: copy it again" in board.refuses("--bundle", str(path))
    (path.parent / "SHA256SUMS").unlink()
    path.write_bytes(b"nothing")
    assert "is no bundle" in board.refuses("--bundle", str(path))
    path.unlink()
    small_bundle(path.parent, "1", machine="riscv64")
    assert f"holds no agent for {platform.machine()}" in board.refuses("--bundle", str(path.parent))


@pytest.fixture
def packaged(board: Board) -> Board:
    """With the Debian package: this clone's modules, and a `rankfleet` that says how it is called."""
    package = board.root / "usr/lib/rankfleet-agent"
    package.mkdir(parents=True)
    (package / "edge_agent").symlink_to(CLONE / "edge_agent")
    command = board.root / "usr/bin/rankfleet"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "called: $*"\n')
    command.chmod(0o755)
    board.program("curl", "echo no network >&2; exit 6")
    return board


def test_where_the_package_is_installed_it_is_configured_and_joins(packaged: Board) -> None:
    done = packaged.run("--token", "abc", "--device", "pi-7", "--budget-mib", "300")
    assert done.returncode == 0, done.stderr
    config = packaged.root / "etc/rankfleet/agent.toml"
    assert f"called: agent join {config} --token abc" in done.stdout and "agent unit" not in done.stdout
    text = config.read_text()
    assert 'device = "pi-7"' in text and f"budget_bytes = {300 * 2**20}" in text and "port = 9883" in text
    assert (packaged.root / "var/lib/rankfleet/identity/ca.pem").read_text() == CA.strip() + "\n"
    assert not (packaged.root / "opt").exists() and not (packaged.root / "usr/local").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--upgrade"], 1, "apt keeps the agent on this board up to date"),
        (["--uninstall", "--purge"], 1, "apt purge rankfleet-agent"),
        (["--bundle", "stick"], 2, "leave --bundle out"),
    ],
)
def test_what_apt_does_is_left_to_it(arguments: list[str], status: int, words: str, packaged: Board) -> None:
    assert words in packaged.refuses(*arguments, status=status)


def test_names_in_the_list_of_bundles_cannot_lead_elsewhere(board: Board, gateway: Gateway) -> None:
    told = {"sha256": "0" * 64, "bytes": 1, "version": "1", "machine": platform.machine(), "python": PYTHON}
    gateway.bundles.append({**told, "name": "../../etc/passwd; reboot"})
    board.script.write_text(gateway.installer())
    assert "has no agent for" in board.refuses()


def test_the_name_of_a_bundle_is_that_of_its_manifest() -> None:
    assert Manifest("1.0", "aarch64", "3.11", {}).name == "rankfleet-agent-1.0-aarch64-cp311.tar"
