"""Objects on the wire: what arrives is what was sent, and every byte is counted."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.wire.memory_link import MAX_PAYLOAD_BYTES, MemoryLink
from edge_agent.wire.pace import WINDOW
from profiling.experiments.traffic import Wire

SIZES_BYTES = (1, 1000, MAX_PAYLOAD_BYTES, 3 * MAX_PAYLOAD_BYTES, (WINDOW + 2) * MAX_PAYLOAD_BYTES)


class Published(list[tuple[str, int]]):
    """Topics and sizes of all payloads."""

    @property
    def total_bytes(self) -> int:
        return sum(len(topic) + size_bytes for topic, size_bytes in self)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    seen, publish = Published(), MemoryLink.publish

    def spy(link: MemoryLink, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        seen.append((topic, len(payload)))
        return publish(link, topic, payload, qos=qos)

    monkeypatch.setattr(MemoryLink, "publish", spy)
    return seen


def a_body(size_bytes: int) -> bytes:
    return np.random.default_rng(size_bytes).bytes(size_bytes)


@pytest.mark.parametrize("size_bytes", SIZES_BYTES)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_what_arrives_is_what_was_sent_and_all_of_it_is_counted(
    direction: str, size_bytes: int, published: Published
) -> None:
    body = a_body(size_bytes)
    arrived, counted_bytes = getattr(Wire(), direction)("client-1", body)
    assert arrived == body
    assert counted_bytes == published.total_bytes > size_bytes


def test_chunks_fit_the_payloads_of_a_broker(published: Published) -> None:
    Wire().up("client-1", a_body(3 * MAX_PAYLOAD_BYTES))
    assert len(published) > 4
    assert max(size_bytes for _, size_bytes in published) <= MAX_PAYLOAD_BYTES


def test_an_object_is_counted_for_itself_alone(published: Published) -> None:
    wire = Wire()
    sizes = [wire.up("client-1", a_body(500))[1], wire.down("client-1", a_body(700))[1], wire.up("b", a_body(1))[1]]
    assert sum(sizes) == published.total_bytes


def test_devices_speak_and_listen_on_their_own_topics(published: Published) -> None:
    wire = Wire()
    for device in ("a", "b"):
        published.clear()
        wire.up(device, a_body(10))
        assert {topic.split("/")[2] for topic, _ in published} == {device}
