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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.enrolment.history import past_rounds
from deploy.board.bundle import publish, write_tar
from deploy.board.own_wheel import CLONE, build
from edge_agent.releases.bundle import Manifest, unpack
from edge_agent.wire.pack import file_sha256
from tests.system.boards import CONFIG, DEVICE, Command, Gateway, approve, paste, serving, show
from tests.system.fleet import toy_rows, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]
SUITE = os.environ.get("RANKFLEET_ARM64_SUITE", "bookworm")
SCRIPT = Path(__file__).with_name("arm64_tree.sh")
CANNOT_RUN = 3
"""Status of the script where this machine lacks what it needs."""
HOST = "127.0.0.1"
ROUNDS = 2
NEXT = "0.1.1"
ROWS = 12
# What Debian's own tools for users leave behind, whoever calls them.
BACKUPS = {f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")}


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


def train(tree: Tree, gateway: Gateway) -> None:
    """The agent of the board, over TLS, until the coordinator dismisses it."""
    tree.run("sudo install -o rankfleet -g rankfleet -m 640 texts.jsonl /var/lib/rankfleet/data/")
    found = doctor(tree)
    assert found["broker"] == found["engine"] == found["system"] == found["data"] == found["disk"] == "ok", found
    said = tree.run(f"sudo -u rankfleet rankfleet agent run {CONFIG}")
    assert "Traceback" not in said
    gateway.says("the rounds are over")
    assert past_rounds(gateway.folder.root / "run", DEVICE) == tuple(range(1, ROUNDS + 1))


def current(tree: Tree) -> str:
    """The release that the command is of."""
    return (tree.root / "opt/rankfleet/current").readlink().name


def doctor(tree: Tree) -> dict[str, str]:
    """What the doctor finds, by check: its level as it is shown."""
    said = tree.run(f"sudo -u rankfleet rankfleet agent doctor {CONFIG}")
    return {check: level for level, check in re.findall(r"^(\w+) +([\w ,]+): ", said, flags=re.MULTILINE)}


def test_a_board_joins_trains_is_upgraded_rolled_back_and_uninstalled(tmp_path: Path) -> None:
    with emulated(tmp_path) as tree, serving(tmp_path, HOST, ROUNDS) as gateway:
        python = tree.run("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").strip()
        bundle = gateway.bundle(tmp_path / "bundles", "aarch64", python)
        version = bundle.name.split("-")[2]
        write_rows(tree.root / "root" / "texts.jsonl", toy_rows(0, ROWS))
        before = tree.files()
        pasted = paste(tree.start, gateway)
        assert not (tree.root / "var/lib/rankfleet/identity/device.pem").exists()
        said = approve(gateway, pasted)
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
