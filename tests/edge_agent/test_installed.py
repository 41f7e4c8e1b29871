from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from edge_agent.installed import commit, release

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs Git")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "first")
    return folder


def test_a_checkout_tells_its_commit(checkout: Path) -> None:
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_commit_is_found_where_git_packed_its_names(checkout: Path) -> None:
    git(checkout, "pack-refs", "--all")
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_checkout_of_no_branch_tells_its_commit(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "--detach")
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_worktree_tells_its_own_commit(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    git(tmp_path / "side", "commit", "--quiet", "--allow-empty", "-m", "second")
    assert commit(tmp_path / "side") == git(tmp_path / "side", "rev-parse", "HEAD") != commit(checkout)


def test_garbage_is_no_commit(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: ../../etc/passwd\n", encoding="utf-8")
    found = commit(tmp_path)
    assert found is None or len(found) in (40, 64)


def test_the_release_is_that_of_the_installation() -> None:
    assert release() == version("rankfleet")
