"""Objects on their way between coordinator and clients: real frames over the in-memory link, counted as they pass."""

from __future__ import annotations

import hashlib
from typing import Any

from edge_agent.wire import frame, topics
from edge_agent.wire import messages as m
from edge_agent.wire.link import Received
from edge_agent.wire.memory_link import MemoryBroker, MemoryLink
from edge_agent.wire.pace import Pace
from edge_agent.wire.pull import Puller
from edge_agent.wire.transfer import BytesSource, MemorySink, chunk_bytes_for, serve

FLEET = "experiment"


class Wire:
    """The links of a fleet. What is pulled passes as `Want` and `Chunk` frames, as between agent and coordinator."""

    def __init__(self) -> None:
        broker = MemoryBroker()
        self._broker = broker
        self._server = broker.link(topics.COORDINATOR, [topics.every_up(FLEET)])
        self._clients: dict[str, MemoryLink] = {}
        self._sequence = 0
        self._chunk_bytes = chunk_bytes_for(broker.max_payload_bytes)

    def up(self, device: str, body: bytes) -> tuple[bytes, int]:
        """Pulls `body` from `device`; what arrived, and the bytes of all frames and topics."""
        return self._pull(
            body, self._client(device), self._server, topics.down(FLEET, device), topics.up(FLEET, device)
        )

    def down(self, device: str, body: bytes) -> tuple[bytes, int]:
        """Lets `device` pull `body`; what arrived, and the bytes of all frames and topics."""
        return self._pull(
            body, self._server, self._client(device), topics.up(FLEET, device), topics.down(FLEET, device)
        )

    def _pull(self, body: bytes, owner: MemoryLink, taker: MemoryLink, ask: str, answer: str) -> tuple[bytes, int]:
        before = taker.traffic()
        ref = m.ObjectRef("object", hashlib.sha256(body).digest(), len(body))
        puller, sink = Puller(Pace(first_chunk_bytes=self._chunk_bytes)), MemorySink(len(body))
        puller.add(ref, sink)
        while puller.busy:
            want = puller.poll(self._chunk_bytes, 0.0)
            if want is not None:
                self._publish(taker, ask, want)
                asked = self._take(owner, m.Want)
                for chunk in serve(asked, BytesSource(body), limit_bytes=self._chunk_bytes):
                    self._publish(owner, answer, chunk)
            puller.take(self._take(taker, m.Chunk), 0.0)
        after = taker.traffic()
        return bytes(sink.data), after.bytes_up - before.bytes_up + after.bytes_down - before.bytes_down

    def _client(self, device: str) -> MemoryLink:
        if device not in self._clients:
            self._clients[device] = self._broker.link(device, [topics.down(FLEET, device)])
        return self._clients[device]

    def _publish(self, link: MemoryLink, topic: str, message: m.Message) -> None:
        self._sequence += 1
        link.publish(topic, frame.encode(message, 0, self._sequence))

    def _take(self, link: MemoryLink, kind: type[Any]) -> Any:
        """The next message, which must be of `kind`: nothing gets lost or overtaken in memory."""
        while not isinstance(event := link.receive(0.0), Received):
            assert event is not None
        message = frame.Decoder(m.Want | m.Chunk).decode(event.payload).message
        assert isinstance(message, kind)
        return message
