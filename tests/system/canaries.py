"""Texts that must not get out, and the search for them in everything that did."""

from __future__ import annotations

import base64
import json
import struct
import threading
import urllib.parse
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec

from edge_agent.wire import container, frame
from edge_agent.wire import messages as m
from edge_agent.wire.container import HEADER_BYTES, MAGIC
from edge_agent.wire.errors import WireError
from edge_agent.wire.link import Connected, Received
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from tests.brokers import PASSWORD, wait_for
from tests.models import SPECIAL, WORDS

TEXT = "zq7xkarfunkel geheimnis-41"
LABEL = "unerhoert-schild-17"
NAME = "vogelfrei-dateiname-88"
MESSAGE = "brombeer-ausnahme-63"
SPOKEN = tuple(WORDS[place] for place in (41, 7, 52, 19, 3, 58, 30, 11, 46))
"""A text of the tiny model's own words, whose token ids tell it."""
ALL = {"text": TEXT, "label": LABEL, "file name": NAME, "message": MESSAGE, "spoken": " ".join(SPOKEN)}
IDS = tuple(len(SPECIAL) + WORDS.index(word) for word in SPOKEN)
INTEGERS = "BbHhIiQq"
INFLATED_BYTES = 2**28


def forms(text: str) -> dict[str, bytes]:
    """The ways in which a text may be hidden in bytes, by name; all in lower case bar base64."""
    found = {f"{text} as {code}": text.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")}
    for shift in range(3):  # base64 of a whole has one of three forms of a part
        coded = base64.b64encode(b"\0" * shift + text.encode())
        found[f"{text} as base64, shifted by {shift}"] = coded[(0, 2, 3)[shift] : len(coded) // 4 * 4 - 4]
    found[f"{text} as hexadecimal"] = text.encode().hex().encode()
    found[f"{text} in an address"] = urllib.parse.quote(text).lower().encode()
    found[f"{text} in a form"] = urllib.parse.quote_plus(text).lower().encode()
    found[f"{text} in JSON"] = json.dumps(text)[1:-1].encode()
    return found


def id_forms() -> dict[str, bytes]:
    """The token ids as an array of integers of every width, in both orders of bytes."""
    return {
        f"token ids as {order}{kind}": struct.pack(f"{order}{len(IDS)}{kind}", *IDS)
        for kind in INTEGERS
        for order in "<>"
    }


_CASELESS = {kind: forms(text) for kind, text in ALL.items()}
_IDS = id_forms()


def in_bytes(data: bytes, leaving: Sequence[str] = ()) -> set[str]:
    """Which canaries are in `data`, and how; not those of the kinds `leaving`."""
    lower = data.lower()
    found = set()
    for kind, named in _CASELESS.items():
        if kind not in leaving:
            found |= {name for name, pattern in named.items() if pattern in (data if "base64" in name else lower)}
    return found | {name for name, pattern in _IDS.items() if pattern in data}


def in_object(value: Any) -> set[str]:
    """The same of what a decoder gave: all texts and bytes in it, and token ids among any numbers in order."""
    found = set()
    numbers: list[int] = []
    for part in _leaves(value):
        if isinstance(part, str):
            found |= in_bytes(part.encode(errors="surrogatepass"))
        elif isinstance(part, bytes):
            found |= in_bytes(part)
        else:
            numbers.append(part)
    if _is_run(IDS, numbers):
        found.add("token ids among numbers")
    return found


def _leaves(value: Any) -> Iterator[str | bytes | int]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(key)
            yield from _leaves(one)
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, str | bytes | int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, float) and value.is_integer():
        yield int(value)


def _is_run(wanted: Sequence[int], numbers: Sequence[int]) -> bool:
    starts = range(len(numbers) - len(wanted) + 1)
    return any(tuple(numbers[start : start + len(wanted)]) == tuple(wanted) for start in starts)


def inflated(data: bytes) -> bytes:
    """What a container, or anything else that zlib made, holds; empty where it is neither."""
    body = data[HEADER_BYTES:] if data.startswith(MAGIC) else data
    try:
        return zlib.decompressobj().decompress(body, INFLATED_BYTES)
    except zlib.error:
        return b""


@dataclass
class Heard:
    """Everything that passed a broker, taken apart: frames, messages, objects put together from chunks."""

    payloads: list[tuple[str, bytes]] = field(default_factory=list)

    def messages(self) -> list[m.Message]:
        """Every message, of both directions."""
        found = []
        for topic, payload in self.payloads:
            decoder = frame.Decoder(m.FromAgent if topic.endswith("/up") else m.FromCoordinator)
            try:
                found.append(decoder.decode(payload).message)
            except WireError:
                continue
        return found

    def kinds(self) -> set[type]:
        return {type(message) for message in self.messages()}

    def objects(self) -> dict[bytes, bytes]:
        """What travelled in chunks, by hash; what did not come to its end is as long as it came."""
        parts: dict[bytes, dict[int, bytes]] = defaultdict(dict)
        for message in self.messages():
            if isinstance(message, m.Chunk):
                parts[message.sha256][message.offset_bytes] = message.data
        return {sha256: _joined(chunks) for sha256, chunks in parts.items()}

    def updates(self) -> list[bytes]:
        """The bodies of all updates."""
        kind = container.Kind.UPDATE.value
        found = [body for body in self.objects().values() if body.startswith(MAGIC + kind)]
        return [inflated(body) for body in found]

    def leaks(self) -> set[str]:
        """Canaries in payloads, in decoded messages, in objects and in what these hold."""
        found = set()
        for topic, payload in self.payloads:
            found |= {f"{one} in a payload of {topic}" for one in in_bytes(payload)}
            body = payload[frame.HEADER_BYTES :]
            try:
                found |= {f"{one} in a message of {topic}" for one in in_object(msgspec.msgpack.decode(body))}
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
        for body in self.objects().values():
            held = inflated(body)
            found |= {f"{one} in an object" for one in in_bytes(body) | in_bytes(held) | in_bytes(inflated(held))}
        return found


def _joined(chunks: Mapping[int, bytes]) -> bytes:
    whole = bytearray()
    for offset, data in sorted(chunks.items()):
        whole[offset : offset + len(data)] = data
    return bytes(whole)


class Eavesdropper:
    """A client that subscribes to everything of a fleet's broker, with the coordinator's rights."""

    def __init__(self, port: int) -> None:
        self.heard = Heard()
        settings = MqttSettings("127.0.0.1", port, "eavesdropper", "coordinator", PASSWORD, "3.1.1")
        self._link = MqttLink(settings, ("rankfleet/#",))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Eavesdropper:
        wait_for(self._link, Connected)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._link.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            event = self._link.receive(0.05)
            if isinstance(event, Received):
                self.heard.payloads.append((event.topic, event.payload))
