"""A Debian with systemd in a virtual machine: made by debootstrap, booted by qemu, spoken to over ssh.

Where KVM runs on the processor's own virtualisation the machine does too; else it is emulated, which takes several
times as long and shows the same.

The base system is made once and kept in `~/.cache/rankfleet/vm`. The network is qemu's own: the host's loopback is
10.0.2.2 in the machine, and the machine's ssh a port of the host's loopback.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.fetch.fetch import cache_folder
from tests.brokers import free_port

HOST = "10.0.2.2"
MIRROR, SUITE = "http://deb.debian.org/debian", "bookworm"
PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "kmod", "linux-image-cloud-amd64", "python3", "openssl", "iproute2",
    "openssh-server", "procps", "ca-certificates", "curl", "sudo",
)  # fmt: skip
IMAGE_BYTES = 3 * 2**30
MEMORY_MIB, CORES = 1024, 2
BOOT_S, COMMAND_S = 600.0, 120.0
_NETWORK = """\
[Match]
Name=e*
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
"""
TOOLS = ("qemu-system-x86_64", "debootstrap", "mkfs.ext4", "ssh", "ssh-keygen", "tar")


EMULATED = "RANKFLEET_VM_EMULATED"
"""Set to 1 it has the machine emulated where the processor does not help."""


def require_machine() -> None:
    """Skips, loudly, where there can be no virtual machine."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    reasons = (
        [f"no {', '.join(missing)}: sudo apt install qemu-system-x86 debootstrap e2fsprogs openssh-client"]
        if missing
        else []
    )
    if os.geteuid() != 0:
        reasons.append("not root, whom debootstrap wants")
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        reasons.append("not Linux on x86-64")
    if "kvm" not in accelerator() and os.environ.get(EMULATED) != "1":
        reasons.append(
            f"no virtualisation (KVM): emulated it takes far longer, and is run by `make test-vm` ({EMULATED}=1)"
        )
    if reasons:
        pytest.skip(
            f"NO VIRTUAL MACHINE, so units, watchdog and limits are NOT tested under systemd: {'; '.join(reasons)}"
        )


def accelerator() -> tuple[str, ...]:
    """Options of qemu. A `/dev/kvm` without virtualisation in the processor may be one for adapted kernels alone."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and {"vmx", "svm"} & set(flags):
        return ("-accel", "kvm", "-cpu", "host")
    warnings.warn("NO KVM: the virtual machine is emulated, which takes several times as long", stacklevel=2)
    return ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max")


def run(*command: str | Path, **options: object) -> str:
    """The output of a command that must not fail."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return str(done.stdout)


def base_system() -> Path:
    """A tar file of the base system, made where it is not there yet (a minute)."""
    recipe = hashlib.sha256("\n".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    tar = cache_folder() / "vm" / f"{SUITE}-amd64-{recipe}.tar"
    if not tar.exists():
        tar.parent.mkdir(parents=True, exist_ok=True)
        tree = tar.with_suffix(f".{os.getpid()}")
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, tree, MIRROR)
        shutil.rmtree(tree / "var/cache/apt")
        run("tar", "-C", tree, "-cf", tar.with_suffix(".part"), ".")
        tar.with_suffix(".part").rename(tar)
        shutil.rmtree(tree)
    return tar


def unpack(folder: Path) -> Path:
    """The base system as a tree in `folder`, with a network, and open to a key that is made for it."""
    tree = folder / "tree"
    tree.mkdir()
    run("tar", "-C", tree, "-xf", base_system())
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
    keys = tree / "root/.ssh"
    keys.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(folder / "key.pub", keys / "authorized_keys")
    (tree / "etc/systemd/network/10-lan.network").write_text(_NETWORK)
    (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (tree / "etc/hostname").write_text("board\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 board\n")
    run("chroot", tree, "systemctl", "enable", "systemd-networkd", "ssh")
    return tree


@dataclass
class Machine:
    """One virtual machine. `folder` has its disk, what it wrote to its console, and a transcript of what was asked."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, folder: Path) -> Machine:
        """Makes the disk of the tree, which is used up."""
        tree, disk = folder / "tree", folder / "disk"
        for kind in ("vmlinuz", "initrd.img"):
            (found,) = (tree / "boot").glob(f"{kind}-*")
            shutil.copy(found, folder / kind)
        with disk.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-d", tree, disk, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"})
        shutil.rmtree(tree)
        return cls(folder, free_port())

    def start(self) -> None:
        """Boots, and waits until it can be spoken to."""
        words = (self.folder / "qemu").open("wb")
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64", *accelerator(), "-m", str(MEMORY_MIB), "-smp", str(CORES),
                "-nographic", "-no-user-config", "-monitor", "none", "-serial", f"file:{self.folder / 'console'}",
                "-kernel", self.folder / "vmlinuz", "-initrd", self.folder / "initrd.img",
                "-append", "root=/dev/vda rw console=ttyS0 quiet mitigations=off systemd.show_status=1",
                "-drive", f"file={self.folder / 'disk'},if=virtio,format=raw,cache=unsafe",
                "-netdev", f"user,id=lan,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net,netdev=lan",
            ],
            stdin=subprocess.DEVNULL, stdout=words, stderr=words,
        )  # fmt: skip
        self.wait_for_boot()

    def wait_for_boot(self, after: str = "") -> None:
        """Waits for another boot than `after`."""
        deadline_s = time.monotonic() + BOOT_S
        while time.monotonic() < deadline_s:
            try:
                said = self.ask("cat /proc/sys/kernel/random/boot_id && systemctl is-system-running --wait", COMMAND_S)
            except subprocess.TimeoutExpired:
                continue
            if said.returncode != 255 and said.stdout.split()[:1] not in ([after], []):
                return
            time.sleep(0.5)
        console = (self.folder / "console").read_text(errors="replace")[-4000:]
        raise AssertionError(f"the machine did not boot in {BOOT_S} s:\n{console}")

    def shell(self, command: str) -> list[str]:
        """What runs a shell command there as root; its status is 255 where nobody answers."""
        options = {
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR",
            "ConnectTimeout": "10", "BatchMode": "yes", "IdentitiesOnly": "yes",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", *words, "-i", str(self.folder / "key"), "-p", str(self.port), "root@127.0.0.1", command]

    def ask(self, command: str, timeout_s: float = COMMAND_S, given: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a shell command, which reads `given`."""
        done = subprocess.run(
            self.shell(command),
            input=given, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False,
        )  # fmt: skip
        with (self.folder / "transcript").open("a", encoding="utf-8") as file:
            file.write(f"# {command}\n{done.stdout}{done.stderr}")
        return done

    def says(self, command: str, timeout_s: float = COMMAND_S, given: str = "") -> str:
        """The output of a command that must not fail."""
        done = self.ask(command, timeout_s, given)
        alive = self.process is not None and self.process.poll() is None
        assert alive, f"the machine ended by itself: {(self.folder / 'qemu').read_text(errors='replace')}"
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def reboot(self) -> None:
        """Restarts it in order, and waits until it can be spoken to."""
        boot = self.says("cat /proc/sys/kernel/random/boot_id")
        self.ask("systemctl reboot")
        self.wait_for_boot(boot)

    def stop(self) -> None:
        """Ends it the hard way."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
