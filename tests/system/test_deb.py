"""The Debian package: built, looked at, and installed, upgraded, removed and purged by a real apt in a Debian tree."""

from __future__ import annotations

import json
import shutil
import ssl
import struct
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.board import agent_tree, wheels
from deploy.board.wheels import Target
from deploy.cli.main import main
from tests.brokers import require_mosquitto
from tests.bundles import small_bundle
from tests.debian_tree import Tree, fresh_tree
from tests.models import tiny_pack
from tests.system.sites import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

AGENT = "rankfleet-agent"
LIBRARY = "usr/lib/rankfleet-agent"
CONFIG = "/etc/rankfleet/agent.toml"
AS_AGENT = ("setpriv", "--reuid", "rankfleet", "--regid", "rankfleet", "--clear-groups", "--")
_UNCHECKED = ssl._create_unverified_context()  # as the pasted line fetches it, which has the script's checksum
ELF_MACHINES = {"arm64": 183, "amd64": 62}
"""e_machine of ELF: EM_AARCH64 and EM_X86_64."""
AFTER_APT = ("var/cache/", "var/lib/apt/", "var/lib/dpkg/", "var/log/", "root/")
"""What apt and dpkg write for themselves, and where the tests put packages."""


@pytest.fixture(scope="module", autouse=True)
def _wheels_are_fetched_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """That the package index keeps what it has is a condition of the same bytes."""
    kept: dict[Target, Path] = {}

    def collect(own: Path, target: Target, constraints: Path, folder: Path) -> list[Path]:
        if target not in kept:
            kept[target] = tmp_path_factory.mktemp("wheels")
            wheels.collect(own, target, constraints, kept[target])
        return [Path(shutil.copy(wheel, folder)) for wheel in sorted(kept[target].glob("*.whl"))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_tree, "collect", collect)
        yield


def _build(out: Path, target: str) -> Path:
    assert main(["deploy", "deb", "--target", target, "--python", "3.11", "--out", str(out)]) == 0
    (package,) = out.glob("*.deb")
    return package


def _needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"NOT TESTED: no {program} here: apt install {program}")
    return found


@pytest.fixture(scope="module")
def amd64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _needs("dpkg-deb")
    return _build(tmp_path_factory.mktemp("amd64"), "x86_64")


@pytest.fixture(scope="module")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _needs("dpkg-deb")
    return _build(tmp_path_factory.mktemp("arm64"), "aarch64")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return fresh_tree(tmp_path / "tree")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    require_mosquitto()
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def _field(package: Path, name: str) -> str:
    done = subprocess.run(["dpkg-deb", "-f", str(package), name], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _apt_install(tree: Tree, package: Path, name: str = "agent.deb") -> str:
    shutil.copy(package, tree.root / "root" / name)
    return tree.run("apt-get", "install", "--yes", f"/root/{name}").stdout


def _configure(tree: Tree) -> None:
    """As a technician would, after the example; the broker's port is one that nobody listens on."""
    example = (tree.root / f"usr/share/doc/{AGENT}/examples/agent.toml").read_text()
    text = example.replace("gateway.example.org", "127.0.0.1").replace("port = 8883", "port = 1")
    (tree.root / "etc/rankfleet/agent.toml").write_text(text)
    (tree.root / "var/lib/rankfleet/data/texts.jsonl").write_text('{"text": "a pump that leaks", "label": "pump"}\n')


def _findings(said: str) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in map(json.loads, said.splitlines())}


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_a_package_is_for_one_architecture_and_one_python(architecture: str, request: pytest.FixtureRequest) -> None:
    package: Path = request.getfixturevalue(architecture)
    assert package.name == f"{AGENT}_{_field(package, 'Version')}_{architecture}.deb"
    assert _field(package, "Architecture") == architecture
    assert {"python3 (>= 3.11~)", "python3 (<< 3.12)", "openssl"} <= set(_field(package, "Depends").split(", "))
    unpacked = package.parent / "unpacked"
    subprocess.run(["dpkg-deb", "-x", str(package), str(unpacked)], check=True)
    libraries = [path for path in unpacked.rglob("*") if path.is_file() and _elf_machine(path) is not None]
    assert {_elf_machine(path) for path in libraries} == {ELF_MACHINES[architecture]}
    assert {"onnxruntime", "numpy", "tokenizers"} <= {
        path.relative_to(unpacked / LIBRARY).parts[0] for path in libraries
    }
    assert not [path for path in unpacked.rglob("*") if path.name in {"__pycache__", "direct_url.json"}]
    scripts = [path for path in unpacked.rglob("*") if path.is_file() and path.stat().st_mode & 0o111]
    assert scripts == [unpacked / "usr/bin/rankfleet"]


def _elf_machine(path: Path) -> int | None:
    """What processor a file is for; None where it is for none."""
    head = path.read_bytes()[:20]
    return struct.unpack_from("<H", head, 18)[0] if head.startswith(b"\x7fELF") and len(head) == 20 else None


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_lintian_finds_neither_errors_nor_warnings(architecture: str, request: pytest.FixtureRequest) -> None:
    lintian = _needs("lintian")
    package: Path = request.getfixturevalue(architecture)
    done = subprocess.run(
        [lintian, "--allow-root", "--fail-on", "error,warning", str(package)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_same_sources_make_the_same_bytes(amd64: Path, tmp_path: Path) -> None:
    assert _build(tmp_path, "x86_64").read_bytes() == amd64.read_bytes()


def test_apt_installs_an_agent_that_runs(amd64: Path, tree: Tree) -> None:
    said = _apt_install(tree, amd64)
    assert "waits for its fleet" in said and "agent doctor /etc/rankfleet/agent.toml" in said
    assert (
        tree.run("rankfleet", "--version").stdout.strip() == f"rankfleet {_field(amd64, 'Version').partition('+')[0]}"
    )
    assert "rankfleet agent" in tree.run("rankfleet", "--help").stdout
    wanted = tree.root / "etc/systemd/system"
    assert (wanted / "multi-user.target.wants/rankfleet-agent.service").is_symlink()
    assert (wanted / "timers.target.wants/rankfleet-update.timer").is_symlink()
    folders = tree.run("sh", "-c", "cd /var/lib/rankfleet && stat -c '%a %U:%G %n' identity state data spool").stdout
    assert folders.splitlines() == [
        "700 rankfleet:rankfleet identity",
        "700 rankfleet:rankfleet state",
        "750 rankfleet:rankfleet data",
        "700 root:root spool",
    ]
    assert "Configuration file" not in said
    units = ("rankfleet-agent.service", "rankfleet-update.service", "rankfleet-update.timer")
    assert tree.run("systemd-analyze", "verify", "--man=no", *units).stdout == ""


def test_the_installed_agent_passes_its_engine_check_as_its_own_user(amd64: Path, tree: Tree) -> None:
    _apt_install(tree, amd64)
    _configure(tree)
    tree.run("chown", "-R", "rankfleet:", "/var/lib/rankfleet/identity", "/var/lib/rankfleet/data")
    done = tree.run(*AS_AGENT, "rankfleet", "agent", "doctor", "--json", CONFIG, check=False)
    found = _findings(done.stdout)
    assert found["engine"]["level"] == "ok" and found["engine"]["found"].startswith("ONNX Runtime 1.25")
    assert found["disk"]["level"] == "ok" and found["data"]["level"] == "ok"
    assert done.returncode == 1 and found["broker"]["level"] == "failure"


def test_it_joins_by_the_gateways_installer_and_takes_renewals_and_packs_but_no_release(
    amd64: Path, tree: Tree, site: Site, tmp_path: Path
) -> None:
    _apt_install(tree, amd64)
    fetched = urllib.request.urlopen(f"{site.url}/v1/install.sh", context=_UNCHECKED)
    (tree.root / "root/install.sh").write_bytes(fetched.read())
    (tmp_path / "names").write_text("pi-1\n")
    site.operator("preapprove", str(tmp_path / "names"))
    said = tree.run(
        "sh", "/root/install.sh", "--token", str(site.operator("token")["token"]), "--device", "pi-1"
    ).stdout
    assert "pi-1 is a member of the fleet" in said and not (tree.root / "opt/rankfleet").exists()
    identity = tree.root / "var/lib/rankfleet/identity"
    assert tree.run("stat", "-L", "-c", "%a %U", "/var/lib/rankfleet/identity/device.key").stdout == "600 rankfleet\n"
    done = tree.run(*AS_AGENT, "rankfleet", "agent", "doctor", "--json", CONFIG, check=False)
    assert _findings(done.stdout)["broker"]["level"] == "ok", done.stdout

    assert "is to stay" in tree.run("rankfleet", "agent", "update", CONFIG).stdout
    before = (identity / "device.pem").read_bytes()
    site.operator("rotate", "pi-1")
    assert "is to stay" in tree.run("rankfleet", "agent", "update", CONFIG).stdout
    assert (identity / "device.pem").read_bytes() != before

    newer = small_bundle(tmp_path, "99.0", python="3.11")
    site.operator("update", "start", "--release", str(newer), "--canary", "1")
    assert "agent 99.0: unfit (managed by apt" in tree.run("rankfleet", "agent", "update", CONFIG).stdout
    site.operator("update", "start", "--pack", str(tiny_pack()))
    assert ": installed" in tree.run("rankfleet", "agent", "update", CONFIG).stdout
    (pack,) = (tree.root / "var/lib/rankfleet/state/packs").iterdir()
    assert tree.run("stat", "-c", "%U", f"/var/lib/rankfleet/state/packs/{pack.name}").stdout == "rankfleet\n"


def test_the_package_is_refused_where_the_installers_agent_is(amd64: Path, tree: Tree) -> None:
    release = tree.root / "opt/rankfleet/current"
    release.parent.mkdir(parents=True)
    release.symlink_to("releases/1.0")
    shutil.copy(amd64, tree.root / "root/agent.deb")
    done = tree.run("apt-get", "install", "--yes", "/root/agent.deb", check=False)
    assert done.returncode != 0 and "rankfleet agent uninstall --keep-data" in done.stdout
    assert not (tree.root / LIBRARY).exists()


def test_modules_of_the_current_folder_are_not_taken_for_the_agents(amd64: Path, tree: Tree) -> None:
    _apt_install(tree, amd64)
    for name in ("deploy", "argparse", "numpy"):
        (tree.root / "tmp" / f"{name}.py").write_text("raise SystemExit('taken from the current folder')\n")
    assert tree.run("sh", "-c", "cd /tmp && rankfleet --version").stdout.startswith("rankfleet ")
    # The variables that the wrapper sets hold for the processes that the agent starts.
    variables = [
        line for line in (tree.root / "usr/bin/rankfleet").read_text().splitlines() if line.startswith("export")
    ]
    child = "cd /tmp && python3 -c 'import numpy; print(numpy.__file__)'"
    assert tree.run("sh", "-c", "\n".join([*variables, child])).stdout.startswith(f"/{LIBRARY}/numpy/")


def test_without_systemd_the_user_and_folders_are_made_nevertheless(amd64: Path, tree: Tree) -> None:
    for program in ("systemd-sysusers", "systemd-tmpfiles"):
        (tree.root / "usr/bin" / program).rename(tree.root / "usr/bin" / f"{program}.away")
        (tree.root / "bin" / program).unlink(missing_ok=True)
    _apt_install(tree, amd64)
    state = tree.run("stat", "-c", "%a %U:%G", "/var/lib/rankfleet/identity").stdout
    assert state.strip() == "700 rankfleet:rankfleet"
    assert tree.run("getent", "passwd", "rankfleet").stdout.split(":")[5:] == [
        "/var/lib/rankfleet",
        "/usr/sbin/nologin\n",
    ]


def test_an_upgrade_keeps_what_the_agent_has_and_nothing_of_its_old_files(
    amd64: Path, tree: Tree, tmp_path: Path
) -> None:
    older = _older(amd64, tmp_path)
    _apt_install(tree, older, "older.deb")
    _configure(tree)
    tree.run("rankfleet", "--version")
    tree.run("python3", "-c", "import sys; sys.path.insert(0, '/usr/lib/rankfleet-agent'); import gone_by_now")
    said = _apt_install(tree, amd64)
    assert "nothing was started" in said and "waits for its fleet" not in said
    assert tree.run("dpkg-query", "-W", "-f", "${Version}", AGENT).stdout == _field(amd64, "Version")
    assert not list((tree.root / LIBRARY).rglob("*gone_by_now*"))
    assert (tree.root / "var/lib/rankfleet/data/texts.jsonl").read_text().startswith('{"text"')
    assert (tree.root / "etc/rankfleet/agent.toml").exists()


def _older(package: Path, folder: Path) -> Path:
    """The same package as an older version, with a module that the newer one has no more."""
    tree = folder / "older"
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: ", "Version: 0~"))
    (tree / LIBRARY / "gone_by_now.py").write_text("")
    target = folder / "older.deb"
    subprocess.run(["dpkg-deb", "-b", "-Znone", str(tree), str(target)], check=True, stdout=subprocess.DEVNULL)
    return target


def test_a_removal_keeps_the_data_and_says_so_and_a_purge_leaves_nothing(amd64: Path, tree: Tree) -> None:
    before, users = tree.files(), tree.run("getent", "passwd").stdout
    _apt_install(tree, amd64)
    _configure(tree)
    tree.run("rankfleet", "--help")
    said = tree.run("apt-get", "remove", "--yes", AGENT).stdout
    assert "your data is kept: /var/lib/rankfleet/data, 1 files" in said
    assert not (tree.root / LIBRARY).exists()
    assert (tree.root / "var/lib/rankfleet/data/texts.jsonl").exists()
    assert (tree.root / "etc/rankfleet/agent.toml").exists()
    tree.run("apt-get", "purge", "--yes", AGENT)
    left = {path for path in tree.files() - before if not path.startswith(AFTER_APT)}
    assert not {path for path in left if "rankfleet" in path}
    # The backups that the tools for users keep of their own files.
    assert {path for path in left if not path.endswith("-")} <= {"run/adduser"}
    assert tree.run("getent", "passwd").stdout == users


def test_a_purge_spares_what_is_mounted_among_the_data(amd64: Path, tree: Tree) -> None:
    _apt_install(tree, amd64)
    mounted = "mkdir /var/lib/rankfleet/data/stick && mount -t tmpfs none /var/lib/rankfleet/data/stick"
    write = "touch /var/lib/rankfleet/data/stick/mine /var/lib/rankfleet/data/ours"
    look = "ls /var/lib/rankfleet/data/stick /var/lib/rankfleet/data"
    said = tree.run("sh", "-c", f"{mounted} && {write} && apt-get purge --yes {AGENT} && {look}").stdout
    assert "kept what is mounted" in said
    assert "mine" in said and "ours" not in said


def test_apt_refuses_the_package_on_another_python(amd64: Path, tree: Tree, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    subprocess.run(["dpkg-deb", "-R", str(amd64), str(folder)], check=True)
    control = folder / "DEBIAN/control"
    control.write_text(control.read_text().replace("python3 (>= 3.11~)", "python3 (>= 3.12~)"))
    other = tree.root / "root/other.deb"
    subprocess.run(["dpkg-deb", "-b", "-Znone", str(folder), str(other)], check=True, stdout=subprocess.DEVNULL)
    done = tree.run("apt-get", "install", "--yes", "/root/other.deb", check=False)
    assert done.returncode != 0 and "python3 (>= 3.12~)" in done.stdout
