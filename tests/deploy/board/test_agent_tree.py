"""What a package carries of the agent: for the board's machine and Python, and the same whoever unpacks it."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from deploy.board import agent_tree
from deploy.board.wheels import Target
from edge_agent.wire.errors import FetchError

TARGET = Target("aarch64", "3.11")


def _wheel(folder: Path, name: str, tag: str, files: dict[str, str]) -> Path:
    info = f"{name}-1.0.dist-info"
    members = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = ""
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{member},sha256={digest},{len(text)}\n"
            archive.writestr(member, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package index that has what rankfleet needs: one library for the board, and pip."""

    def own(folder: Path) -> Path:
        entry = {"rankfleet-1.0.dist-info/entry_points.txt": "[console_scripts]\nrankfleet = rankfleet_made:main\n"}
        return _wheel(folder, "rankfleet", "py3-none-any", {"rankfleet_made.py": "", **entry})

    def collect(_own: Path, _target: Target, _constraints: Path, folder: Path) -> list[Path]:
        library = {"for_arm.so": "", "__pycache__/old.cpython-39.pyc": ""}
        board = _wheel(folder, "for_arm", "cp311-cp311-manylinux_2_28_aarch64", library)
        return [board, _wheel(folder, "pip", "py3-none-any", {"pip/__init__.py": ""})]

    monkeypatch.setattr(agent_tree, "own_wheel", own)
    monkeypatch.setattr(agent_tree, "collect", collect)


@pytest.mark.usefixtures("index")
def test_what_the_board_needs_is_unpacked_and_pip_is_not(tmp_path: Path) -> None:
    carried = agent_tree.unpack_agent(TARGET, tmp_path / "agent")
    assert [one.metadata["Name"] for one in carried] == ["for_arm", "rankfleet"]
    assert {path.name for path in (tmp_path / "agent").iterdir()} == {
        "for_arm.so", "for_arm-1.0.dist-info", "rankfleet_made.py", "rankfleet-1.0.dist-info",
    }  # fmt: skip


@pytest.mark.usefixtures("index")
def test_nothing_tells_which_interpreter_and_folder_it_was_unpacked_with(tmp_path: Path) -> None:
    agent_tree.unpack_agent(TARGET, tmp_path / "agent")
    assert not list(tmp_path.rglob("direct_url.json"))
    record = (tmp_path / "agent/rankfleet-1.0.dist-info/RECORD").read_text()
    assert "rankfleet_made.py," in record and "bin/rankfleet" not in record


@pytest.mark.usefixtures("index")
def test_a_wheel_for_another_python_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="could not unpack the agent's wheels"):
        agent_tree.unpack_agent(Target("aarch64", "3.12"), tmp_path / "agent")
