"""What is told of changes is enough: whoever applies it to what they have has what is there."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given

from coordinator.web import state
from coordinator.web.state import DeviceRow, Level, RequestRow, RoundRow, Run, Snapshot, changes, message
from coordinator.web.texts import STATIC

NAMES = st.sampled_from(["pi-1", "pi-2", "pi-3", "pi-4"])
KNOWN = st.none() | st.integers(0, 2)


def row(online: bool = True, **changed: Any) -> DeviceRow:
    values: dict[str, Any] = dict.fromkeys(state.COLUMNS)
    return DeviceRow(**{**values, "online": online, "part": "", "late": False, "phase": "", "note": "", **changed})


SNAPSHOTS = st.builds(
    Snapshot,
    fleet=st.just("depot"),
    run=st.builds(Run, service=st.sampled_from(["running", "stopped"]), closed=st.integers(0, 3)),
    levels=st.lists(st.builds(Level, st.just("devices"), st.just(2.0), st.booleans(), st.none(), st.none())).map(tuple),
    devices=st.dictionaries(NAMES, st.builds(row, st.booleans(), examples=KNOWN)),
    rounds=st.dictionaries(
        st.sampled_from("123"),
        st.builds(lambda loss: RoundRow(1, 2, 0, None, loss, 3, 4, 5, 6.0, None), st.none() | st.just(0.5)),
    ),
    requests=st.dictionaries(NAMES, st.just(RequestRow("1", "pi-1", "aa", 7))),
)


def applied(known: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """As static/js/fleet.js does it."""
    after = {name: dict(value) if name in state.TABLES else value for name, value in known.items()}
    for name, value in told.items():
        if name in state.TABLES:
            after.setdefault(name, {}).update(value)
        elif name != state.GONE:
            after[name] = value
    for name, keys in told.get(state.GONE, {}).items():
        for key in keys:
            del after[name][key]
    return after


@given(SNAPSHOTS, SNAPSHOTS)
def test_changes_lead_from_one_state_to_the_next(before: Snapshot, after: Snapshot) -> None:
    known = applied({}, changes(None, before))
    assert known == msgspec.structs.asdict(before)
    assert applied(known, changes(before, after)) == msgspec.structs.asdict(after)


@given(SNAPSHOTS)
def test_where_nothing_changed_nothing_is_said(snapshot: Snapshot) -> None:
    assert changes(snapshot, snapshot) == {} and message(snapshot, snapshot, 1.0) is None


def test_of_a_thousand_devices_only_the_one_that_changed_is_told() -> None:
    before = Snapshot("depot", Run("running"), devices={f"pi-{number}": row() for number in range(1000)})
    after = msgspec.structs.replace(before, devices={**before.devices, "pi-7": row(online=False)})
    told = message(before, after, 12.34)
    assert told is not None and len(told) < 200
    decoded = msgspec.json.decode(told)
    assert decoded["now_s"] == 12.3 and set(decoded) == {"now_s", "devices"}
    assert set(decoded["devices"]) == {"pi-7"} and decoded["devices"]["pi-7"][0] is False


def test_the_browser_reads_the_columns_in_the_order_in_which_they_are_written() -> None:
    script = (STATIC / "js" / "fleet.js").read_text(encoding="utf-8")
    listed = script.partition("COLUMNS = [")[2].partition("]")[0]
    names = [name.strip().strip('"') for name in listed.split(",") if name.strip()]
    assert [name.removesuffix("_bytes").removesuffix("_c") for name in state.COLUMNS] == names
