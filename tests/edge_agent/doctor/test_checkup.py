"""The command on this machine, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.brokers import PASSWORD, free_port, mosquitto

CHECKS = [
    "board", "system", "page size", "memory control group", "pressure", "swap", "power", "heat", "clock",
    "certificates", "disk", "memory", "data", "privacy", "engine", "broker", "unit",
]  # fmt: skip


def doctor(folder: Path, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "texts.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (folder / "password").write_text(PASSWORD)
    config = folder / "agent.toml"
    config.write_text(
        'device = "pi-1"\nfleet = "f"\ndata = "texts.jsonl"\nstate_dir = "state"\n'
        f'[broker]\nport = {port}\npassword_file = "password"\n'
    )
    command = [sys.executable, "-m", "deploy.cli.main", "agent", "doctor", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_check_is_a_line_of_json_and_a_sound_board_is_no_failure(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        done = doctor(tmp_path, broker.port, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["check"] for one in found] == CHECKS
    assert all(one["remedy"] for one in found if one["level"] != "ok")
    assert (done.returncode, [one for one in found if one["level"] == "failure"]) == (0, [])


def test_a_failure_is_the_exit_status_and_says_what_to_do(tmp_path: Path) -> None:
    done = doctor(tmp_path, free_port())
    assert done.returncode == 1
    assert "FAILURE broker: no broker at 127.0.0.1" in done.stdout
    assert "Check broker.host" in done.stdout


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.cli.main", "agent", "doctor", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "none.toml" in done.stderr
