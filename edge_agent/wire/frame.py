"""Frames: the bytes of one MQTT payload.

::

    offset  bytes  content
    0       2      magic "RF"
    2       1      protocol version
    3       1      reserved, zero
    4       4      boot: how often the sender has started, big-endian
    8       8      sequence number within that boot, big-endian, below 2**63; 0 is the last will
    16      32     sha256 of bytes 0 to 15 and of the body
    48      ...    body: one message as MessagePack

Boot and sequence number let the receiver drop what it has seen: duplicates of QoS 1, and replays.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import msgspec

from .errors import FrameError, PayloadError, ProtocolError
from .malformed import MALFORMED
from .messages import PROTOCOL, Message

MAGIC = b"RF"
HEADER_BYTES = 48
MAX_FRAME_BYTES = 2**20
MAX_SEQUENCE = 2**63 - 1
"""The largest integer that the databases of both sides can keep."""
MAX_BOOT = 2**32 - 1
_HEAD = struct.Struct(">2sBBIQ")
_ENCODER = msgspec.msgpack.Encoder()


class Envelope(msgspec.Struct, frozen=True):
    """A decoded frame."""

    boot: int
    sequence: int
    message: Any


class Decoder:
    """Decodes the messages of one direction: `Decoder(FromAgent)` or `Decoder(FromCoordinator)`."""

    def __init__(self, direction: Any) -> None:
        self._body: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(direction)

    def decode(self, frame: bytes) -> Envelope:
        """The envelope in `frame`.

        Raises:
            FrameError: not a frame, cut short, altered, over `MAX_FRAME_BYTES`, or numbered over `MAX_SEQUENCE`.
            ProtocolError: a frame of another protocol version.
            PayloadError: a body that is no message of this direction.
        """
        if len(frame) > MAX_FRAME_BYTES:
            raise FrameError(f"a frame has at most {MAX_FRAME_BYTES} bytes, got {len(frame)}")
        if len(frame) < HEADER_BYTES or frame[:2] != MAGIC:
            raise FrameError(f"expected a frame that starts with {MAGIC!r}, got {len(frame)} bytes: {frame[:8]!r}")
        _, version, reserved, boot, sequence = _HEAD.unpack_from(frame)
        if version != PROTOCOL:
            raise ProtocolError(
                f"this side speaks protocol {PROTOCOL}, the other side {version}: update the older of the two"
            )
        body = frame[HEADER_BYTES:]
        if reserved or _digest(frame[: _HEAD.size], body) != frame[_HEAD.size : HEADER_BYTES]:
            raise FrameError(f"checksum mismatch in a frame of {len(frame)} bytes: cut short or altered on the way")
        if sequence > MAX_SEQUENCE:
            raise FrameError(f"a frame has a sequence number of at most {MAX_SEQUENCE}, got {sequence}")
        try:
            message = self._body.decode(body)
        except MALFORMED as error:
            raise PayloadError(f"a frame of {len(frame)} bytes holds no acceptable message: {error}") from error
        return Envelope(boot, sequence, message)


def encode(message: Message, boot: int, sequence: int) -> bytes:
    """`message` as one frame."""
    head = _HEAD.pack(MAGIC, PROTOCOL, 0, boot, sequence)
    body = _ENCODER.encode(message)
    return head + _digest(head, body) + body


def _digest(head: bytes, body: bytes) -> bytes:
    return hashlib.sha256(head + body).digest()
