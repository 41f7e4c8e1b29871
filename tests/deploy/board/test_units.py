"""Rendered units, as systemd's own tools judge them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from deploy.board import units
from edge_agent.config import AgentConfig, MemorySettings
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import BrokerSettings

MIB = 2**20
SETTINGS = AgentConfig(
    "pi-1", "depot", Path("/var/lib/rankfleet/data/a.jsonl"), Path("/var/lib/rankfleet/state"), BrokerSettings(),
    memory=MemorySettings(256 * MIB),
)  # fmt: skip
CONFIG = Path("/etc/rankfleet/agent.toml")
MOST_EXPOSED = 2.0


def changed(**fields: object) -> AgentConfig:
    return msgspec.structs.replace(SETTINGS, **fields)


def written(folder: Path) -> list[Path]:
    """The units in `folder`, for a release that exists: verify looks for it."""
    for name in ("rankfleet", "python"):
        program = folder / "release/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    paths = []
    for name, text in units.render(SETTINGS, CONFIG, folder / "release", "root").items():
        paths.append(folder / name)
        paths[-1].write_text(text)
    return paths


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NO systemd-analyze, so the units are NOT verified: sudo apt install systemd")
    return subprocess.run(["systemd-analyze", *map(str, words)], capture_output=True, text=True, check=False)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    done = analyze("verify", *written(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_line_that_systemd_does_not_understand_would_be_found(tmp_path: Path) -> None:
    path = written(tmp_path)[0]
    path.write_text(path.read_text().replace("[Service]", "[Service]\nRestratSec=1"))
    assert "RestratSec" in analyze("verify", path).stderr


def test_the_agent_is_hardened(tmp_path: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", written(tmp_path)[0])
    found = re.search(r"exposure level for \S+: (\d+\.\d)", done.stdout)
    assert found is not None and float(found[1]) <= MOST_EXPOSED, done.stdout


@pytest.mark.parametrize("budget_mib", [64, 256, 4096])
def test_limits_leave_the_budget_its_room_and_stay_near_it(budget_mib: int) -> None:
    high, top = (int(size) for size in re.findall(r"=(\d+)", units.limits(budget_mib * MIB)))
    assert budget_mib * MIB + units.FILES_BYTES == high < top
    assert top - high >= max(32 * MIB, budget_mib * MIB // 8)


def test_without_a_budget_limits_are_shares_of_the_board() -> None:
    high, top = (int(share) for share in re.findall(r"=(\d+)%", units.limits(None)))
    assert 50 < high < top < 100


def test_the_service_runs_this_release_with_this_configuration_as_its_user() -> None:
    text = units.render(SETTINGS, CONFIG, Path("/srv/release"), "pi")[units.AGENT]
    for line in (
        "Type=notify", "ExecStart=/srv/release/bin/python -m edge_agent /etc/rankfleet/agent.toml", "User=pi",
        "WatchdogSec=180", "OOMPolicy=continue", "ExecReload=/bin/kill -HUP $MAINPID", "ProtectHome=yes",
        "StateDirectory=rankfleet/state",
    ):  # fmt: skip
        assert line in text.splitlines()


def test_folders_elsewhere_are_let_in() -> None:
    text = units.render(changed(state_dir=Path("/home/pi/state")), CONFIG)[units.AGENT].splitlines()
    assert {"ReadWritePaths=/home/pi/state", "ProtectHome=read-only"} <= set(text)
    text = units.render(changed(data=Path("/root/texts.csv")), CONFIG)[units.AGENT].splitlines()
    assert "ProtectHome=read-only" in text


@pytest.mark.parametrize("name", ["a b", "50%", "$HOME", "a\nb", 'a"b'])
def test_a_path_that_would_mean_something_else_to_systemd_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a unit cannot name"):
        units.render(changed(state_dir=Path("/srv") / name), CONFIG)
    with pytest.raises(ConfigError, match="a unit cannot name"):
        units.render(SETTINGS, Path("/etc") / name / "agent.toml")
