"""systemd is asked by its own command; where there is none, nothing is started and nothing asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.releases.layout import Board
from edge_agent.releases.service_manager import AGENT_UNIT, NoManager, Systemd, service_manager
from edge_agent.wire.errors import ReleaseError

SYSTEMCTL = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$1 $3" in
  "show --property=ActiveState,MainPID") cat {folder}/state ;;
  "show --property=LoadState") [ "$2" = rankfleet-update.timer ] && echo LoadState=not-found || echo LoadState=loaded ;;
esac
[ "$1" != start ] || {{ echo "Job for $2 failed." >&2; exit 1; }}
"""


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    """A systemd that cannot start anything."""
    command = tmp_path / "systemctl"
    command.write_text(SYSTEMCTL.format(folder=tmp_path))
    command.chmod(0o755)
    return Systemd(str(command))


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


@pytest.mark.parametrize(
    ("state", "process", "wanted"),
    [
        ("ActiveState=active\nMainPID=42\n", 42, True),
        ("ActiveState=activating\nMainPID=42\n", None, True),
        ("ActiveState=failed\nMainPID=0\n", None, True),
        ("ActiveState=inactive\nMainPID=0\n", None, False),
    ],
)
def test_an_agent_runs_when_it_is_ready_and_one_that_fails_is_wanted_still(
    state: str, process: int | None, wanted: bool, systemd: Systemd, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text(state)
    assert (systemd.process(), systemd.wanted()) == (process, wanted)


def test_what_systemd_says_of_a_failure_is_told(systemd: Systemd, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=rf"Job for {AGENT_UNIT} failed\..*journalctl -u"):
        systemd.start()
    assert asked(tmp_path) == [f"reset-failed {AGENT_UNIT}", f"start {AGENT_UNIT}"]
    with pytest.raises(ReleaseError, match="is systemd running"):
        Systemd(str(tmp_path / "none")).stop()


def test_units_that_are_there_are_ended_for_good(systemd: Systemd, tmp_path: Path) -> None:
    systemd.forget()
    systemd.reread()
    assert [line for line in asked(tmp_path) if not line.startswith("show")] == [
        f"disable --now {AGENT_UNIT}",
        "disable rankfleet-update.service",
        "daemon-reload",
    ]


def test_a_tree_in_a_folder_has_no_manager(tmp_path: Path) -> None:
    (tmp_path / "run" / "systemd" / "system").mkdir(parents=True)
    manager = service_manager(Board(tmp_path))
    assert isinstance(manager, NoManager) and not manager.manages
    assert manager.process() is None and not manager.wanted()
