"""The example of user-data: cloud-init takes it, its placeholders are known, and its scripts do what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

USER_DATA = Path(__file__).resolve().parents[3] / "deploy" / "board" / "cloud-init" / "user-data"
PLACEHOLDERS = {
    "@DEVICE@": "board-01",
    "@USER@": "technician",
    "@SSH_KEY@": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample technician",
    "@INSTALL_LINE@": (
        "curl -fsSk https://gateway:8443/v1/install.sh -o rankfleet-install.sh && "
        'echo "00ff  rankfleet-install.sh" | sha256sum -c - && sudo sh rankfleet-install.sh --token abc'
    ),
}


def _filled() -> str:
    text = USER_DATA.read_text(encoding="utf-8")
    for name, value in PLACEHOLDERS.items():
        text = text.replace(name, value)
    return text


def _data() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(_filled())
    return data


def test_its_placeholders_are_those_that_it_explains() -> None:
    text = USER_DATA.read_text(encoding="utf-8")
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert set(re.findall(r"@[A-Z_]+@", text)) == set(re.findall(r"@[A-Z_]+@", comments)) == set(PLACEHOLDERS)


def test_filled_in_it_is_a_configuration_that_joins() -> None:
    assert _filled().startswith("#cloud-config\n")
    data = _data()
    assert data["hostname"] == "board-01" and data["users"][0]["name"] == "technician"
    assert data["runcmd"][-1] == f"cd /root || exit 1\n{PLACEHOLDERS['@INSTALL_LINE@']}\n"


def test_cloud_init_takes_it(tmp_path: Path) -> None:
    program = shutil.which("cloud-init")
    if program is None:
        pytest.skip("NOT TESTED: no cloud-init here: apt install cloud-init")
    path = tmp_path / "user-data"
    path.write_text(_filled(), encoding="utf-8")
    done = subprocess.run([program, "schema", "--config-file", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_scripts_are_clean_shell() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("NOT TESTED: no shellcheck here: apt install shellcheck")
    script = "\n".join(_data()["runcmd"])
    done = subprocess.run([shellcheck, "--shell=sh", "-"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_memory_control_group_is_turned_on_once(tmp_path: Path) -> None:
    line, restart = tmp_path / "cmdline.txt", tmp_path / "restart"
    line.write_text("console=tty1 root=PARTUUID=1 rootwait \n")
    script = _data()["runcmd"][0].replace("/boot/firmware/cmdline.txt", str(line))
    script = script.replace("/run/rankfleet-restart", str(restart))
    subprocess.run(["sh", "-ec", script], check=True)
    assert line.read_text() == "console=tty1 root=PARTUUID=1 rootwait cgroup_enable=memory cgroup_memory=1\n"
    restart.unlink()
    subprocess.run(["sh", "-ec", script], check=True)
    assert line.read_text().count("cgroup_enable=memory") == 1 and not restart.exists()
    assert _data()["power_state"]["condition"] == "test -e /run/rankfleet-restart"


def test_a_board_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    script = _data()["runcmd"][0].replace("/boot/firmware", str(tmp_path)).replace("/run/", f"{tmp_path}/")
    subprocess.run(["sh", "-ec", script], check=True)
    assert not list(tmp_path.iterdir())
