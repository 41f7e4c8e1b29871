"""The installer in a real Debian for arm64, as the page says, under an emulator of its processor.

`make test-arm64` runs it, for another Debian with SUITE=trixie. The bare system is kept beside other caches and used
again. What is printed, with `-s`, is what a technician sees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from deploy.board.bundle import Order, make, write_tar
from deploy.board.own_wheel import CLONE, build
from deploy.board.wheels import Target
from edge_agent.releases.bundle import Manifest, unpack
from edge_agent.wire.pack import file_sha256
from tests.bundle_gateway import serving
from tests.system.fleet import toml, toy_rows, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]
SUITE = os.environ.get("RANKFLEET_ARM64_SUITE", "bookworm")
SCRIPT = Path(__file__).with_name("arm64_tree.sh")
CANNOT_RUN = 3
"""Status of the script where this machine lacks what it needs."""
NEXT = "0.1.1"
# What Debian's own tools for users leave behind, whoever calls them.
BACKUPS = {f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")}


def show(text: str) -> None:
    """What a technician sees, for whoever runs this with `-s`."""
    print(text, flush=True)  # noqa: T201 (that is what it is for)


class Tree:
    """A system in a folder, whose programs run under the emulator."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, status: int = 0) -> str:
        """What a command says on standard output; shows it, and everything else that it says."""
        show(f"$ {' '.join(command)}")
        environ = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        done = subprocess.run(
            ["chroot", str(self.root), *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
            check=False, env=environ,
        )  # fmt: skip
        show(done.stdout)
        assert done.returncode == status, done.stdout
        return done.stdout

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
    tarball = cache / f"{SUITE}.tar.gz"
    done = subprocess.run([str(SCRIPT), SUITE, str(tarball)], capture_output=True, text=True, check=False)
    if os.geteuid() != 0 or done.returncode == CANNOT_RUN:
        pytest.skip(f"NOT TESTED on arm64: {done.stderr.strip() or 'this needs root'}")
    assert done.returncode == 0, done.stderr
    root = folder / "board"
    root.mkdir()
    subprocess.run(["tar", "-xzf", str(tarball), "--numeric-owner", "-C", str(root)], check=True)
    mounts = [root / "proc", root / "sys"]
    for point, kind in zip(mounts, ("proc", "sysfs"), strict=True):
        subprocess.run(["mount", "-t", kind, kind, str(point)], check=True)
    try:
        yield Tree(root)
    finally:
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


def findings(tree: Tree) -> dict[str, str]:
    """What the doctor finds, by check: its level."""
    home = tree.root / "root"
    write_rows(home / "train.jsonl", toy_rows(0))
    settings = {"device": "pi-1", "fleet": "depot", "data": "train.jsonl", "state_dir": "state"}
    (home / "agent.toml").write_text(toml({**settings, "broker": {"port": 9}}))
    told = tree.run("rankfleet", "agent", "doctor", "/root/agent.toml", "--json", status=1).splitlines()
    found = [msgspec.json.decode(line) for line in told if line.startswith("{")]
    shutil.rmtree(home / "state", ignore_errors=True)
    for name in ("train.jsonl", "agent.toml"):
        (home / name).unlink()
    return {one["check"]: one["level"] for one in found}


def sizes(tree: Tree, version: str) -> None:
    """Prints what a release takes on the disk."""
    folder = tree.root / "opt" / "rankfleet" / "releases" / version
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    compiled_bytes = sum(path.stat().st_size for path in files if path.suffix == ".pyc")
    total_bytes = sum(path.stat().st_size for path in files)
    show(f"installed: {total_bytes / 1e6:.1f} MB, {compiled_bytes / 1e6:.1f} MB of it bytecode")
    assert total_bytes < 140e6


def test_install_upgrade_roll_back_and_uninstall(tmp_path: Path) -> None:
    with emulated(tmp_path) as tree, serving(tmp_path / "gateway") as gateway:
        python = tree.run("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
        (bundle, _) = make(Order(Target("aarch64", python)), gateway.folder)
        version = bundle.name.split("-")[2]
        gateway.publish(bundle)
        (tree.root / "root" / "rankfleet-install.sh").write_text(gateway.installer())
        before = tree.files()
        install = ("sh", "/root/rankfleet-install.sh")
        told = tree.run(*install, "--no-join", "--device", "pi-1")
        assert f"release {version} is installed" in told and "nothing is started" in told
        assert tree.run("rankfleet", "--version") == f"rankfleet {version}\n"
        sizes(tree, version)
        assert tree.run("stat", "-c", "%U:%G %a", "/var/lib/rankfleet/state") == "rankfleet:rankfleet 700\n"
        found = findings(tree)
        assert found["engine"] == found["system"] == found["data"] == "ok", found
        gateway.publish(next_release(bundle, tmp_path))
        assert f"release {NEXT} is installed" in tree.run(*install, "--upgrade")
        assert tree.run("rankfleet", "--version") == f"rankfleet {NEXT}\n"
        tree.run("rankfleet", "agent", "rollback")
        assert tree.run("rankfleet", "--version") == f"rankfleet {version}\n"
        tree.run(*install, "--uninstall", "--purge")
        assert tree.files() - before <= BACKUPS
        assert before - tree.files() == set()
        assert "rankfleet" not in (tree.root / "etc" / "passwd").read_text() + (tree.root / "etc" / "group").read_text()
