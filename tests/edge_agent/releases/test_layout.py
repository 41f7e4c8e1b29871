"""Where things lie, and where the configuration says that the state is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.releases.layout import Board


def test_a_real_board_has_its_files_where_linux_expects_them() -> None:
    board = Board()
    assert board.real
    assert str(board.current) == "/opt/rankfleet/current"
    assert str(board.config) == "/etc/rankfleet/agent.toml"
    assert str(board.command) == "/usr/local/bin/rankfleet"
    assert not Board(Path("/tmp/tree")).real


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "var/lib/rankfleet/state"),
        ('device = "a"\nstate_dir = "/srv/state"\n[broker]\nhost = "b"\n', "/srv/state"),
        ('state_dir = "beside"\n', "etc/rankfleet/beside"),
        ('state_dir = "/srv/a \\"b\\""\n', '/srv/a "b"'),
        ('# state_dir = "/srv/state"\n', "var/lib/rankfleet/state"),
        ('device = "a"\n[broker]\nstate_dir = "/srv/state"\n', "var/lib/rankfleet/state"),
    ],
)
def test_the_state_folder_is_the_configured_one(text: str, expected: str, tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.settings.mkdir(parents=True)
    if text:
        board.config.write_text(text)
    assert board.state_dir() == tmp_path / expected
