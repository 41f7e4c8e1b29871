"""A Debian tree of this machine's architecture to install packages in, by debootstrap, kept as a tar between runs.

Programs run in it by chroot, in mount and process namespaces of their own. No systemd runs there, as in a container.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.fetch.fetch import cache_folder

RELEASE = "bookworm"
_MIRROR = "http://deb.debian.org/debian"
_BESIDE = ("adduser", "openssl", "procps", "python3", "systemd")
"""What the agent's package asks for, and what every board has: so that installing it needs no network."""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_ENTER = """\
mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && shift && exec chroot "$@"
"""


class Tree:
    """A root folder with Debian in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a program in the tree as root; its output, standard error within."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh", str(self.root)]
        done = subprocess.run(
            [*enter, str(self.root), *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
            env=_ENVIRONMENT, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done

    def files(self) -> set[str]:
        """Every path in the tree, kernel file systems apart."""
        listed = subprocess.run(
            ["find", str(self.root), "-xdev", "-printf", "%P\n"], capture_output=True, text=True, check=True
        )
        return set(listed.stdout.splitlines())


def fresh_tree(folder: Path, *further: str) -> Tree:
    """A fresh tree in `folder`, with the packages `further`; skips the test where this machine cannot make one."""
    reason = _what_is_missing()
    if reason:
        pytest.skip(f"NOT TESTED: no Debian tree here: {reason}")
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-C", str(folder), "-xf", str(_archive(further))], check=True)
    return Tree(folder)


def _what_is_missing() -> str | None:
    if os.geteuid() != 0:
        return "chroot needs root"
    if shutil.which("debootstrap") is None and not Path("/usr/sbin/debootstrap").exists():
        return "debootstrap is not installed: apt install debootstrap"
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode:
        return "namespaces are not allowed"
    return None


def _archive(further: tuple[str, ...]) -> Path:
    """The tar of a tree as debootstrap and apt leave it, made if it is not there."""
    folder = cache_folder() / "debian"
    archive = folder / f"{RELEASE}-{os.uname().machine}-{'-'.join((*_BESIDE, *further))}.tar"
    if archive.exists():
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f".making-{os.getpid()}"
    root = work / "tree"
    try:
        if further:
            root.mkdir(parents=True)
            subprocess.run(["tar", "-C", str(root), "-xf", str(_archive(()))], check=True)
            Tree(root).run("apt-get", "update")
            Tree(root).run("apt-get", "install", "--yes", "--no-install-recommends", *further)
            Tree(root).run("apt-get", "clean")
        else:
            _debootstrap(root)
        subprocess.run(["tar", "-C", str(root), "--one-file-system", "-cf", str(work / "tar"), "."], check=True)
        (work / "tar").replace(archive)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return archive


def _debootstrap(root: Path) -> None:
    root.mkdir(parents=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(_BESIDE)}", RELEASE, str(root), _MIRROR]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **_ENVIRONMENT})
