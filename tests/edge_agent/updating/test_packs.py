"""Root has packs changed by a process of the folder's own user, and hears why one was refused."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.enrolment.release_files import pack_release
from edge_agent.updating import packs as packs_module
from edge_agent.updating.packs import Packs
from edge_agent.wire import pack
from edge_agent.wire.errors import PackError
from tests.models import tiny_pack

NOBODY = 65534
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, str]:
    release = pack_release(tiny_pack(), tmp_path / "releases")
    return tmp_path / "releases" / release.bundles[0].name, release.version


def test_a_pack_is_installed_and_removed(bundle: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    packs = Packs(tmp_path / "state")
    packs.install(*bundle)
    pack.verify(tmp_path / "state" / "packs" / bundle[1])
    packs.remove(bundle[1])
    assert not list((tmp_path / "state" / "packs").iterdir())


def test_the_reason_of_a_refusal_is_told(bundle: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with pytest.raises(PackError, match="its manifest says"):
        Packs(tmp_path / "state").install(bundle[0], "0" * 16)


@pytest.mark.parametrize("name", ["../../../../etc", "0123456789ABCDEF", "0" * 15, ""])
def test_a_name_that_is_none_never_becomes_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="hexadecimal"):
        Packs(tmp_path).remove(name)


def test_a_trial_that_a_signal_ends_leaves_nothing(
    bundle: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a library does that was built for another processor."""
    broken = tmp_path / "modules" / "edge_agent_trial.py"
    broken.parent.mkdir()
    broken.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from edge_agent.updating import pack_trial\n"
        "pack_trial._try = lambda *_: os.kill(os.getpid(), 4)\n"
        "sys.exit(pack_trial.main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(packs_module, "_CHILD", "edge_agent_trial")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{broken.parent}")
    (tmp_path / "state").mkdir()
    with pytest.raises(PackError, match="killed by signal 4"):
        Packs(tmp_path / "state").install(*bundle)
    assert not list((tmp_path / "state").iterdir())


def nobodys_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has trials run by a Python that any user may start, with the modules of this one; skips where there is none."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{sysconfig.get_path('purelib')}")
    command = [sys.executable, "-c", "import edge_agent.engine.session, tokenizers"]
    if os.geteuid() != 0 or subprocess.run(command, user=NOBODY, group=NOBODY, cwd="/", check=False).returncode:
        pytest.skip("only root may become another user, and that one needs a Python")


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A folder that every user may enter; those of pytest are its user's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_root_leaves_the_folder_to_its_user(
    bundle: tuple[Path, str], anybodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that this user plants leads to nothing that the user may not write."""
    nobodys_python(monkeypatch)
    state_dir = anybodys / "state"
    state_dir.mkdir()
    os.chown(state_dir, NOBODY, NOBODY)
    packs = Packs(state_dir)
    packs.install(*bundle)
    assert {path.stat().st_uid for path in state_dir.rglob("*")} == {NOBODY}
    victim = state_dir.parent / "victim"
    victim.mkdir()
    packs.remove(bundle[1])
    (state_dir / "packs").rmdir()
    (state_dir / "packs").symlink_to(victim)
    with pytest.raises(PackError, match="Permission denied"):
        packs.install(*bundle)
    assert not list(victim.iterdir())
