"""A board becomes a member with nothing but the commands, and is put out again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.wire.link import Connected
from tests.brokers import wait_for
from tests.system.site import TIMEOUT_S, Site, running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path) as made:
        yield made


def test_a_board_joins_speaks_and_is_put_out(site: Site) -> None:
    token = site.token()
    joining = site.join(token)
    waiting: list[Any] = []
    deadline_s = time.monotonic() + TIMEOUT_S
    while not waiting:
        assert joining.poll() is None, joining.communicate()
        assert time.monotonic() < deadline_s
        waiting = site.operator("requests")
    assert site.operator("approve", waiting[0]["id"])["state"] == "approved"
    out, _ = joining.communicate(timeout=TIMEOUT_S)
    assert (joining.returncode, waiting[0]["fingerprint"] in out) == (0, True)
    link = site.link()
    try:
        wait_for(link, Connected)
        revoked = site.operator("revoke", "pi-1")
        assert len(revoked["serials"]) == 1
        reasons: list[str] = []
        while not any("revoked" in reason for reason in reasons):
            assert time.monotonic() < deadline_s
            event = link.receive(1.0)
            reasons.append("" if event is None or isinstance(event, Connected) else str(event))
    finally:
        link.close()
    used_up = site.join(token)
    out, _ = used_up.communicate(timeout=TIMEOUT_S)
    assert (used_up.returncode, "used before" in out) == (1, True), out
