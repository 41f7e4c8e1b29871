"""The systemd unit of a gateway, as systemd's own tools judge it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.unit import text
from edge_agent.wire.errors import ConfigError

MOST_EXPOSED = 2.0


def analyze(unit: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NO SYSTEMD, so the unit is NOT verified: sudo apt install systemd")
    command = ["systemd-analyze", *arguments, str(unit)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["fleet", "my fleet", "50% off", 'a"b', "a$b"])
def test_systemd_takes_it_without_a_word(tmp_path: Path, name: str) -> None:
    unit = tmp_path / "rankfleet-coordinator.service"
    folder = FleetFolder(tmp_path / name)
    folder.root.mkdir()
    unit.write_text(text(folder, "depot", "daemon", (sys.executable, "coordinator", "up", str(folder.root))))
    done = analyze(unit, "verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_as_shut_off_as_a_service_that_listens_can_be(tmp_path: Path) -> None:
    unit = tmp_path / "rankfleet-coordinator.service"
    unit.write_text(text(FleetFolder(Path("/srv/fleet")), "depot", "nobody", ("/usr/bin/rankfleet",)))
    done = analyze(unit, "security", "--offline=true")
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSED


def test_it_runs_as_the_folders_owner_and_writes_there_alone() -> None:
    lines = text(FleetFolder(Path("/srv/my fleet")), "depot", "gw", ("/opt/rankfleet", "up", "/srv/my fleet")).split(
        "\n"
    )
    assert {"User=gw", "Type=notify", 'ReadWritePaths="/srv/my fleet"'} <= set(lines)
    assert 'ExecStart=/opt/rankfleet up "/srv/my fleet"' in lines


def test_dollars_and_percent_signs_stand_for_themselves() -> None:
    lines = text(FleetFolder(Path("/srv/a$b%c")), "depot", "gw", ("/opt/rankfleet", "/srv/a$b%c")).split("\n")
    assert {"ReadWritePaths=/srv/a$b%%c", "ExecStart=/opt/rankfleet /srv/a$$b%%c"} <= set(lines)


def test_a_path_that_would_be_another_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="control characters"):
        text(FleetFolder(Path("/srv/a\nUser=root")), "depot", "gw", ("/opt/rankfleet",))
