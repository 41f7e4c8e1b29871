"""Boards and systems, known by the files that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.doctor import board

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_pi_with_a_64_bit_system(tmp_path: Path) -> None:
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    found = board.board(tmp_path, "aarch64", 64)
    assert (found.level, found.found) == ("ok", "Raspberry Pi 4 Model B Rev 1.4, aarch64, 64-bit programs")


@pytest.mark.parametrize(("machine", "bits"), [("armv7l", 32), ("aarch64", 32), ("riscv64", 64)])
def test_others_are_refused_with_the_remedy(tmp_path: Path, machine: str, bits: int) -> None:
    found = board.board(tmp_path, machine, bits)
    assert found.level == "failure" and "64-bit system" in found.remedy


def test_this_machine() -> None:
    assert board.board(Path("/")).level == "ok"
    assert "glibc" in board.system(Path("/")).found


@pytest.mark.parametrize(
    ("release", "glibc", "level"),
    [
        (BOOKWORM, "2.36", "ok"),
        (BOOKWORM.replace("debian", "ubuntu").replace('"12"', '"24.04"'), "2.39", "ok"),
        (BOOKWORM.replace('"12"', '"11"'), "2.31", "warning"),
        ("ID=alpine\n", "", "warning"),
        ("", "2.36", "warning"),
        (BOOKWORM, "2.27", "failure"),
    ],
)
def test_systems(tmp_path: Path, release: str, glibc: str, level: str) -> None:
    put(tmp_path, "etc/os-release", release)
    found = board.system(tmp_path, glibc or "unknown")
    assert found.level == level and bool(found.remedy) == (level != "ok")


@pytest.mark.parametrize(("tegra", "level"), [(36, "ok"), (35, "warning")])
def test_a_jetson_is_known_by_its_release(tmp_path: Path, tegra: int, level: str) -> None:
    put(tmp_path, "etc/os-release", 'ID=ubuntu\nVERSION_ID="22.04"\n')
    put(tmp_path, "etc/nv_tegra_release", f"# R{tegra} (release), REVISION: 4.0, GCID: 1\n")
    found = board.system(tmp_path, "2.35")
    assert (found.level, f"R{tegra}" in found.found) == (level, True)


@pytest.mark.parametrize(("page_bytes", "level"), [(4096, "ok"), (16384, "ok"), (8192, "warning")])
def test_page_sizes(page_bytes: int, level: str) -> None:
    assert board.page_size(page_bytes).level == level


def test_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    assert board.read(tmp_path) == board.read(tmp_path / "none") == ""
