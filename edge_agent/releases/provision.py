"""What a release needs around it on a board: a user, folders that only that user reads, a configuration, a command."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.wire.errors import ConfigError, ReleaseError

from . import durable
from .layout import USER, Board
from .limits import BROKER_PORT

_LIMIT_S = 60


@dataclass(frozen=True)
class Membership:
    """Which fleet a board belongs to and what it may take; `gateway` is the URL of the enrolment service."""

    device: str
    fleet: str
    gateway: str
    broker_port: int = BROKER_PORT
    data: Path | None = None
    """Texts elsewhere than in the usual folder."""
    budget_bytes: int | None = None


def make_user(board: Board) -> None:
    """The user and group `rankfleet`, without a password or a shell, if they are missing.

    Raises:
        ReleaseError: the system's tools refuse.
    """
    if not board.real or _account() is not None:
        return
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", str(board.var), "--shell"]
    _run(["useradd", *options, _no_login(), USER])


def remove_user(board: Board) -> None:
    """Removes user and group, if they are there. Raises ReleaseError."""
    if board.real and _account() is not None:
        _run(["userdel", USER])


def make_folders(board: Board) -> None:
    """The folders of configuration, identity, state and data, each with its owner and mode. Raises OSError."""
    board.settings.mkdir(parents=True, exist_ok=True)
    for folder, mode in ((board.var, 0o755), (board.identity, 0o700), (board.state, 0o700), (board.data, 0o750)):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
        _own(board, folder)


def write_config(board: Board, membership: Membership) -> bool:
    """Writes the agent's configuration unless there is one; whether it was written.

    Raises:
        ConfigError: the gateway is no https:// URL.
        OSError: it cannot be written.
    """
    if board.config.exists():
        return False
    durable.write(board.config, config_text(board, membership).encode(), 0o644)
    return True


def config_text(board: Board, membership: Membership) -> str:
    """The agent's configuration, as TOML. Raises ConfigError as `write_config`."""
    address = urlsplit(membership.gateway)
    if address.scheme != "https" or not address.hostname:
        raise ConfigError(
            f"expected the gateway as https://HOST:PORT, got {membership.gateway!r}: take it from the installer's line"
        )
    paths = {"ca_file": "ca.pem", "certificate_file": "device.pem", "key_file": "device.key"}
    return "\n".join(
        [
            "# The agent of this board, yours to edit: see docs/configuration.md. After a change:",
            "# systemctl restart rankfleet-agent",
            f"device = {json.dumps(membership.device)}",
            f"fleet = {json.dumps(membership.fleet)}",
            f"data = {json.dumps(str(membership.data or board.data))}",
            f"state_dir = {json.dumps(str(board.state))}",
            "",
            "[broker]",
            f"host = {json.dumps(address.hostname)}",
            f"port = {membership.broker_port}",
            *(f"{key} = {json.dumps(str(board.identity / name))}" for key, name in paths.items()),
            "",
            "[gateway]",
            f"url = {json.dumps(membership.gateway)}",
            *([] if membership.budget_bytes is None else ["", "[memory]", f"budget_bytes = {membership.budget_bytes}"]),
            "",
        ]
    )


def write_authority(board: Board, certificate_pem: bytes) -> None:
    """Keeps the fleet's CA certificate where agent and enrolment look for it. Raises OSError."""
    path = board.identity / "ca.pem"
    durable.write(path, certificate_pem)
    _own(board, path)


def link_command(board: Board) -> None:
    """Has `rankfleet` mean the current release, for everybody.

    Raises:
        ReleaseError: a file of that name, which is none of ours, is in the way.
        OSError: it cannot be written.
    """
    target = board.current / "bin" / "rankfleet"
    if board.command.is_symlink() and board.command.readlink() == target:
        return
    if board.command.exists():
        raise ReleaseError(f"{board.command} is there already and not a link to {target}: move it away, run this again")
    board.command.parent.mkdir(parents=True, exist_ok=True)
    durable.link(board.command, target)


def seed_pack(board: Board, pack: Path) -> None:
    """Puts an unpacked model pack where the agent keeps those that it fetched, so that it fetches nothing of it.

    The agent compares every file with the manifest that the fleet names, whoever put it there.

    Raises:
        ReleaseError: `pack` holds no manifest.
        OSError: it cannot be copied.
    """
    manifest = pack / "manifest.json"
    if not manifest.is_file():
        raise ReleaseError(f"{pack} holds no model pack: it has no manifest.json")
    folder = board.state_dir() / "packs" / hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(path for path in pack.iterdir() if path.is_file() and not path.is_symlink()):
        shutil.copyfile(file, folder / file.name)
        _own(board, folder / file.name)
    for made in (folder, folder.parent, folder.parent.parent):
        _own(board, made)


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


def _own(board: Board, path: Path) -> None:
    """Gives `path` to the agent's user: on the system itself, where there is one."""
    if board.real and (account := _account()) is not None:
        os.chown(path, account.pw_uid, grp.getgrgid(account.pw_gid).gr_gid, follow_symlinks=False)


def _no_login() -> str:
    return shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin:/bin") or "/bin/false"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        what = f"'{' '.join(command)}' cannot be carried out: {error}; install the package passwd"
        raise ReleaseError(what) from error
    if done.returncode:
        raise ReleaseError(f"'{' '.join(command)}' failed: {done.stderr.strip()}")
