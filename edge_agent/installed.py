"""Which release of this program is installed, and of which commit."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from edge_agent.doctor.board import read
from edge_agent.wire import lean
from edge_agent.wire.malformed import MALFORMED

SOURCE = Path(__file__).resolve().parent.parent
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class _Vcs(msgspec.Struct):
    commit_id: str = ""


class _Origin(msgspec.Struct):
    """Of `direct_url.json`, what is asked for."""

    vcs_info: _Vcs = msgspec.field(default_factory=_Vcs)


def release() -> str:
    """The version; `unknown` where the program was not installed."""
    try:
        return lean.own_version()
    except ModuleNotFoundError:
        return "unknown"


def commit(source: Path = SOURCE) -> str | None:
    """Of the checkout `source` that it runs from, or that it was installed from (PEP 610); None for a release."""
    return _checked_out(source / ".git") or _installed_from()


def _checked_out(git: Path) -> str | None:
    """What `HEAD` is, from Git's own files (gitrepository-layout(5)); a worktree names its folder in a file."""
    if git.is_file():
        git = git.parent / read(git).removeprefix("gitdir:").strip()
    head = read(git / "HEAD").strip()
    name = head.removeprefix("ref:").strip()
    if name == head:
        return head if _COMMIT.fullmatch(head) else None
    common = git / (read(git / "commondir").strip() or ".")
    loose = read(common / name).strip()
    packed = (line.split(" ", 1) for line in read(common / "packed-refs").splitlines() if " " in line)
    found = loose or next((digest for digest, ref in packed if ref == name), "")
    return found if _COMMIT.fullmatch(found) else None


def _installed_from() -> str | None:
    folder = lean.metadata_folder()
    if folder is None:
        return None
    try:
        origin = msgspec.json.decode(read(folder / "direct_url.json") or "{}", type=_Origin)
    except MALFORMED:
        return None
    found = origin.vcs_info.commit_id
    return found if _COMMIT.fullmatch(found) else None
