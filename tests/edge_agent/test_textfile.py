"""The metrics of a board: written as a whole, for others to read, and documented."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge_agent import session
from edge_agent.meter import Account
from edge_agent.textfile import WRITE_EVERY_S, Textfile, families
from edge_agent.wire import messages as m
from tests.wire.examples import CAPABILITY

ROOT = Path(__file__).resolve().parents[2]
STATE = session.State(
    "0.1.0", None, 6, session.Phase.TRAINING, True,
    ready=m.Ready(bytes(32), 40, 6, 12, 6, CAPABILITY),
    work=m.Plan(7, 9, 6, (), bytes(32), "train", b"\xff", 9, 0, 600.0, 0),
)  # fmt: skip
ACCOUNT = Account(10, 20, 1, 30)


def test_it_is_replaced_every_quarter_of_a_minute_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "rankfleet.prom"
    file = Textfile(path)
    before = os.umask(0o077)
    try:
        file.look(STATE, ACCOUNT, 0.0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    text = path.read_text()
    assert "rankfleet_agent_round 7.0\n" in text and "rankfleet_agent_received_bytes_total 20.0\n" in text
    assert 'rankfleet_agent_phase{phase="training"} 1.0\n' in text
    later = Account(99, 20, 1, 30)
    file.look(STATE, later, WRITE_EVERY_S - 0.1)
    assert path.read_text() == text
    file.look(STATE, later, WRITE_EVERY_S)
    assert "rankfleet_agent_sent_bytes_total 99.0\n" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_setting_nothing_is_written(tmp_path: Path) -> None:
    Textfile(None).look(STATE, ACCOUNT, 0.0)
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written_the_agent_goes_on_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = Textfile(tmp_path / "nowhere" / "rankfleet.prom")
    for turn in range(3):
        file.look(STATE, ACCOUNT, turn * WRITE_EVERY_S)
    assert caplog.text.count("metrics_file cannot be written") == 1


def test_an_agent_that_has_not_joined_says_what_it_knows() -> None:
    found = {one.name: one.samples for one in families(session.State("0.1.0", None, 0), Account())}
    assert found["rankfleet_agent_round"] == [] and found["rankfleet_agent_examples"] == []
    assert found["rankfleet_agent_info"] == [({"version": "0.1.0", "fleet": ""}, 1)]


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for one in families(STATE, ACCOUNT):
        assert f"| `{one.name}` | {one.kind} |" in page
        assert (one.kind == "counter") == one.name.endswith("_total")
