from __future__ import annotations

import math
import subprocess
import sys
from typing import get_args

import msgspec
import pytest

from edge_agent.wire import messages as m
from tests.wire.examples import ALL, BOTH_WAYS, CAPABILITY, FROM_AGENT, FROM_COORDINATOR, SHA


def test_every_kind_of_message_has_an_example() -> None:
    assert {type(x) for x in FROM_AGENT + BOTH_WAYS} == set(get_args(m.FromAgent))
    assert {type(x) for x in FROM_COORDINATOR + BOTH_WAYS} == set(get_args(m.FromCoordinator))


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_what_goes_out_comes_in(message: m.Message) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message)) == message


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_messages_cannot_change(message: m.Message) -> None:
    with pytest.raises(AttributeError):
        setattr(message, message.__struct_fields__[0], None)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (m.Missing, {"sha256": bytes(31)}),
        (m.Missing, {"sha256": SHA, "more": 1}),
        (m.Missing, {"sha256": "a" * 32}),
        (m.Acknowledged, {"round": -1, "sha256": SHA}),
        (m.Acknowledged, {"round": 2**41, "sha256": SHA}),
        (m.Acknowledged, {"sha256": SHA}),
        (m.Want, {"sha256": SHA, "chunk_bytes": 255, "indices": [0]}),
        (m.Want, {"sha256": SHA, "chunk_bytes": 256, "indices": []}),
        (m.Want, {"sha256": SHA, "chunk_bytes": 256, "indices": [0] * 4097}),
        (m.Leave, {"reason": "x" * 2001}),
        (m.Hello, {"agent_version": "", "pack": None, "version": 0}),
    ],
)
def test_values_out_of_range_are_refused(kind: type[m.Message], fields: dict[str, object]) -> None:
    tag = kind.__struct_config__.tag
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"t": tag, **fields}), type=kind)


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("field", ["forward_us", "expand_us"])
def test_durations_that_are_none_are_refused(field: str, number: float) -> None:
    cost = CAPABILITY.cost
    if field == "expand_us":
        cost = msgspec.structs.replace(cost, expand_us=number)
    else:
        cost = msgspec.structs.replace(cost, speeds=(m.Speed(1, (number, 0.0, 0.0), (0.0, 0.0, 0.0)),))
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.msgpack.decode(msgspec.msgpack.encode(cost), type=m.CostTable)


def test_a_capability_without_the_smallest_micro_batch_is_refused() -> None:
    speeds = [msgspec.to_builtins(msgspec.structs.replace(CAPABILITY.cost.speeds[0], micro_batch=8))]
    fields = msgspec.to_builtins(CAPABILITY)
    fields["cost"]["speeds"] = speeds
    with pytest.raises(msgspec.ValidationError, match="from micro-batch 1 on, got 8"):
        msgspec.convert(fields, m.Capability)


def test_what_the_supervisor_imports_of_the_wire_leaves_numpy_out() -> None:
    names = ["frame", "link", "memory_link", "messages", "mqtt", "sinks", "sources", "topics", "transfer"]
    imports = "; ".join(f"import edge_agent.wire.{name}" for name in names)
    code = f"import sys; {imports}; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
