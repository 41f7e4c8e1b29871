"""A board's life in a real Debian for arm64, under an emulator of its processor, with a real gateway beside it.

The line that the gateway prints is pasted, the board is approved, trains over TLS, is upgraded, rolled back and
uninstalled, as docs/install.md says. `make test-arm64` runs it, for another Debian with SUITE=trixie. The bare system
is kept beside other caches and used again. What is printed, with `-s`, is what a technician sees.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.history import past_rounds
from deploy.board.bundle import publish, write_tar
from deploy.board.own_wheel import CLONE, build
from edge_agent.releases.bundle import Manifest, unpack
from edge_agent.wire.pack import file_sha256
from tests.brokers import free_port, require_mosquitto
from tests.models import tiny_pack
from tests.system.fleet import CLASSES, Process, toy_rows, wait_until, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]
SUITE = os.environ.get("RANKFLEET_ARM64_SUITE", "bookworm")
SCRIPT = Path(__file__).with_name("arm64_tree.sh")
CANNOT_RUN = 3
"""Status of the script where this machine lacks what it needs."""
HOST, FLEET, DEVICE = "127.0.0.1", "depot", "pi-1"
CONFIG = "/etc/rankfleet/agent.toml"
NEXT = "0.1.1"
ROWS = 12
PATIENCE_S = 1800.0
"""For whatever the emulator does; it is the processor, and a machine may have other work."""
# Two short rounds on short texts. With one device at hand, one update is a quorum.
ROUNDS = """
[round]
rounds = 2
expected = 1
quorum = 1

[ranks]
initial = 3
target = 1.0
warmup_rounds = 0
final_rounds = 1

[training]
batch_size = 8
max_tokens = 16
lr_head = 0.02
"""
# What Debian's own tools for users leave behind, whoever calls them.
BACKUPS = {f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")}


def show(text: str) -> None:
    """What a technician sees, for whoever runs this with `-s`."""
    print(text, flush=True)  # noqa: T201 (that is what it is for)


class Command:
    """A command that runs, and what it says meanwhile, which is shown line by line."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._begun_s, self._said = time.monotonic(), list[str]()
        self._popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            errors="replace", env=environ,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        return "".join(self._said)

    def says(self, pattern: str) -> str:
        """Waits for it; what the first group of `pattern` holds."""
        wait_until(
            lambda: bool(re.search(pattern, self.said)) or self._popen.poll() is not None,
            PATIENCE_S,
            lambda: f"it never said {pattern!r}: {self.said}",
        )
        found = re.search(pattern, self.said)
        assert found is not None, self.said
        return found[1]

    def ends(self, status: int = 0) -> str:
        """What it said in all, once it has ended with this status."""
        ended = self._popen.wait(PATIENCE_S)
        self._reader.join()
        show(f"({time.monotonic() - self._begun_s:.0f} s)\n")
        assert ended == status, self.said
        return self.said

    def stop(self) -> None:
        if self._popen.poll() is None:
            self._popen.terminate()
            self._popen.wait(60.0)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._said.append(line)
            show(line.rstrip("\n"))


class Tree:
    """A system in a folder, whose programs run under the emulator."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._started: list[Command] = []

    def start(self, line: str) -> Command:
        """Starts a line of shell, as root in root's home; shows it, and everything that it says."""
        show(f"# {line}")
        environ = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        command = ["chroot", str(self.root), "sh", "-c", f"cd && {line}"]
        self._started.append(Command(command, environ))
        return self._started[-1]

    def run(self, line: str, status: int = 0) -> str:
        """What a line of shell says."""
        return self.start(line).ends(status)

    def stop(self) -> None:
        for command in self._started:
            command.stop()

    def files(self) -> set[str]:
        """Every file, folder and link, but for what the kernel shows."""
        tops = [path for path in self.root.iterdir() if path.name not in {"proc", "sys", "tmp", "dev"}]
        found = [*tops, *(path for top in tops if not top.is_symlink() for path in top.rglob("*"))]
        return {str(path.relative_to(self.root)) for path in found}


class Gateway:
    """A gateway that runs, and what its operator says to it."""

    def __init__(self, root: Path) -> None:
        require_mosquitto()
        self.folder = FleetFolder(root / FLEET)
        self._root = root
        ports = ("--broker-port", str(free_port()), "--enrolment-port", str(free_port()))
        rounds = ("--pack", str(tiny_pack()), "--classes", *CLASSES)
        self.operator("init", "--fleet", FLEET, "--host", HOST, *ports, *rounds)
        config = self.folder.coordinator_config
        config.write_text(config.read_text().partition("[round]")[0] + ROUNDS)
        line = [sys.executable, "-m", "deploy.cli.main", "coordinator", "up", str(self.folder.root)]
        self.up = Process(line, "up", root / "up.log", {"PYTHONUNBUFFERED": "1"})

    def says(self, text: str) -> None:
        wait_until(
            lambda: any(text in line for line in self.up.lines) or not self.up.running,
            PATIENCE_S,
            lambda: f"the gateway never said {text!r}: {self.up.lines} {self.up.stderr[-3000:]}",
        )
        assert any(text in line for line in self.up.lines), self.up.stderr[-3000:]

    def operator(self, command: str, *words: str) -> str:
        """What a command of the coordinator says."""
        subject = words[:1] if command in {"approve", "reject", "revoke"} else ()
        return self.rankfleet("coordinator", command, *subject, str(self.folder.root), *words[len(subject) :])

    def rankfleet(self, *words: str) -> str:
        """What a command says; shows it as a technician would type it."""
        show(f"gateway$ rankfleet {' '.join(words)}")
        line = [sys.executable, "-m", "deploy.cli.main", *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        show(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        if self.up.running:
            self.up.terminate()
            self.up.wait()
        for line in self.up.lines:
            show(f"gateway: {line.rstrip()}")


@contextmanager
def emulated(folder: Path) -> Iterator[Tree]:
    """A fresh system of SUITE."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rankfleet" / "arm64"
    cache.mkdir(parents=True, exist_ok=True)
    # A script that makes another tree must not find the one that it made before.
    tarball = cache / f"{SUITE}-{hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:8]}.tar.gz"
    done = subprocess.run([str(SCRIPT), SUITE, str(tarball)], capture_output=True, text=True, check=False)
    if os.geteuid() != 0 or done.returncode == CANNOT_RUN:
        pytest.skip(f"NOT TESTED on arm64: {done.stderr.strip() or 'this needs root'}")
    assert done.returncode == 0, done.stderr
    root = folder / "board"
    root.mkdir()
    subprocess.run(["tar", "-xzf", str(tarball), "--numeric-owner", "-C", str(root)], check=True)
    (root / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {os.uname().nodename}\n")
    mounts = [root / "proc", root / "sys"]
    for point, kind in zip(mounts, ("proc", "sysfs"), strict=True):
        subprocess.run(["mount", "-t", kind, kind, str(point)], check=True)
    tree = Tree(root)
    try:
        yield tree
    finally:
        tree.stop()
        for point in mounts:
            subprocess.run(["umount", "--lazy", str(point)], check=True)


@contextmanager
def serving(folder: Path) -> Iterator[Gateway]:
    """A gateway with a pack, classes, and no board yet."""
    gateway = Gateway(folder)
    try:
        gateway.says("boards join at")
        yield gateway
    finally:
        gateway.stop()


def next_release(bundle: Path, folder: Path) -> Path:
    """The same bundle with a rankfleet of the version NEXT."""
    clone, unpacked = folder / "clone", folder / "unpacked"
    for made in (clone, unpacked):
        made.mkdir()
    for name in ("edge_agent", "coordinator", "profiling", "deploy"):
        shutil.copytree(CLONE / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "benchmark"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(CLONE / name, clone)
    project = (CLONE / "pyproject.toml").read_text()
    (clone / "pyproject.toml").write_text(
        re.sub(r'^version = ".*"$', f'version = "{NEXT}"', project, flags=re.MULTILINE)
    )
    told = unpack(bundle, unpacked)
    next((unpacked / "wheels").glob("rankfleet-*.whl")).unlink()
    build(clone, unpacked / "wheels")
    files = {f"wheels/{path.name}": path for path in sorted((unpacked / "wheels").iterdir())}
    manifest = Manifest(NEXT, told.machine, told.python, {name: file_sha256(path) for name, path in files.items()})
    write_tar(bundle.with_name(manifest.name), manifest, files)
    return bundle.with_name(manifest.name)


def sizes(tree: Tree, version: str) -> None:
    """Prints what a release takes on the disk."""
    folder = tree.root / "opt" / "rankfleet" / "releases" / version
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    compiled_bytes = sum(path.stat().st_size for path in files if path.suffix == ".pyc")
    total_bytes = sum(path.stat().st_size for path in files)
    show(f"installed: {total_bytes / 1e6:.1f} MB, {compiled_bytes / 1e6:.1f} MB of it bytecode\n")
    assert total_bytes < 140e6


def join(tree: Tree, gateway: Gateway) -> str:
    """Pastes the line, approves the board; what its installer said."""
    line = gateway.operator("token", "--device", DEVICE, "--valid-min", "60").strip()
    pasted = tree.start(line)
    fingerprint = pasted.says(r"fingerprint  (\S+)\n")
    pasted.says("(waits for approval)")
    assert not (tree.root / "var/lib/rankfleet/identity/device.pem").exists()
    waiting = gateway.operator("requests")
    assert waiting.count(DEVICE) == waiting.count(fingerprint) == 1
    assert fingerprint in gateway.operator("approve", DEVICE)
    said = pasted.ends()
    assert f"{DEVICE} is a member of the fleet" in said
    assert "OK" in said.partition("\n")[0], "the checksum in the line is what was fetched"
    return said


def train(tree: Tree, gateway: Gateway) -> None:
    """The agent of the board, over TLS, until the coordinator dismisses it."""
    tree.run("sudo install -o rankfleet -g rankfleet -m 640 texts.jsonl /var/lib/rankfleet/data/")
    found = doctor(tree)
    assert found["broker"] == found["engine"] == found["system"] == found["data"] == found["disk"] == "ok", found
    said = tree.run(f"sudo -u rankfleet rankfleet agent run {CONFIG}")
    assert "Traceback" not in said
    gateway.says("the rounds are over")
    assert past_rounds(gateway.folder.root / "run", DEVICE) == (1, 2)


def current(tree: Tree) -> str:
    """The release that the command is of."""
    return (tree.root / "opt/rankfleet/current").readlink().name


def doctor(tree: Tree) -> dict[str, str]:
    """What the doctor finds, by check: its level as it is shown."""
    said = tree.run(f"sudo -u rankfleet rankfleet agent doctor {CONFIG}")
    return {check: level for level, check in re.findall(r"^(\w+) +([\w ,]+): ", said, flags=re.MULTILINE)}


def test_a_board_joins_trains_is_upgraded_rolled_back_and_uninstalled(tmp_path: Path) -> None:
    with emulated(tmp_path) as tree, serving(tmp_path) as gateway:
        python = tree.run("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").strip()
        target = ("--target", "aarch64", "--python", python)
        stick = tmp_path / "bundles"
        gateway.rankfleet("deploy", "bundle", *target, "--fleet", str(gateway.folder.root), "--out", str(stick))
        (bundle,) = stick.glob("rankfleet-agent-*.tar")
        version = bundle.name.split("-")[2]
        write_rows(tree.root / "root" / "texts.jsonl", toy_rows(0, ROWS))
        before = tree.files()
        said = join(tree, gateway)
        assert f"release {version} is installed" in said and "nothing is started" in said
        assert current(tree) == version
        sizes(tree, version)
        assert tree.run("stat -c '%U:%G %a' /var/lib/rankfleet/identity") == "rankfleet:rankfleet 700\n"
        train(tree, gateway)
        publish(next_release(bundle, tmp_path), gateway.folder.releases)
        assert f"release {NEXT} is installed" in tree.run("sudo sh rankfleet-install.sh --upgrade")
        assert tree.run("rankfleet --version") == f"rankfleet {NEXT}\n"
        assert f"release {version} is installed" in tree.run("sudo rankfleet agent rollback")
        assert current(tree) == version
        tree.run("sudo sh rankfleet-install.sh --uninstall --purge")
        tree.run("rm rankfleet-install.sh")
        left = {path for path in tree.files() - before if not path.startswith("run/sudo")}
        assert left <= BACKUPS
        assert before - tree.files() == set()
        assert "rankfleet" not in (tree.root / "etc" / "passwd").read_text() + (tree.root / "etc" / "group").read_text()
