"""What board and gateway say to each other about releases, and what a board keeps of it. Each returns or refuses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec

from coordinator.enrolment import http
from coordinator.enrolment import rollout as r
from coordinator.enrolment.rollout_store import RolloutDesk, RolloutStore
from coordinator.enrolment.service import Outcome
from edge_agent.updating.spool import Spool
from edge_agent.wire.updates import read_orders

DEVICE = "pi-1"
RELEASE = r.Release(
    "agent", "1.1", (r.Bundle("rankfleet-agent-1.1-aarch64-cp311.tar", "a" * 64, 9, "aarch64", "3.11"),)
)
_TERMS = r.Terms(0.9, 0.0, 1e9)


def orders(data: bytes) -> None:
    """What a board does with the gateway's answer before it follows it: a name is never a path."""
    found = read_orders(data)
    assert read_orders(msgspec.json.encode(found)) == found
    if found.release is not None:
        assert Path(found.release.name).name == found.release.name
        assert found.release.bytes > 0


def report(folder: Path) -> Callable[[bytes], None]:
    """A board's report, up to its rollout."""
    path = _rollout(folder)

    def decode(data: bytes) -> None:
        http.convert(data, Outcome)
        RolloutDesk(path).take_report(DEVICE, data)
        with closing(RolloutStore(path)) as store:
            (entry,) = store.entries()
        assert list(entry.rollout.devices) == [DEVICE]

    return decode


def question(folder: Path) -> Callable[[bytes], None]:
    """What a board says of itself in the query of its question, up to the order that it gets."""
    desk = RolloutDesk(_rollout(folder))

    def decode(data: bytes) -> None:
        said = dict(parse_qsl(data.decode("latin-1"), keep_blank_values=True))
        order = desk.release_for(DEVICE, said)
        assert order is None or order.name == RELEASE.bundles[0].name

    return decode


def spooled_order(folder: Path) -> Callable[[bytes], None]:
    """An order as an earlier run of the updater left it."""
    spool = Spool(folder)

    def decode(data: bytes) -> None:
        (folder / "order.json").write_bytes(data)
        order = spool.order()
        assert order is not None and Path(order.name).name == order.name

    return decode


def spooled_report(folder: Path) -> Callable[[bytes], None]:
    """A report that was not delivered."""
    spool = Spool(folder)

    def decode(data: bytes) -> None:
        (folder / "report.json").write_bytes(data)
        assert spool.report() is not None

    return decode


def _rollout(folder: Path) -> Path:
    path = folder / "rollouts.db"
    with closing(RolloutStore(path)) as store:
        store.start(RELEASE, _TERMS, ((DEVICE,),))
    return path
