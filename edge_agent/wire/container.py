"""The wrapping of every binary object: kind, format version, checksum, compressed body.

::

    offset  bytes  content
    0       2      magic "RO"
    2       1      kind, a letter
    3       1      format version
    4       32     sha256 of bytes 0 to 3 and of the compressed body
    36      ...    body, compressed by zlib

The compressed bytes may differ between builds of zlib; what they expand to may not.
"""

from __future__ import annotations

import enum
import hashlib
import zlib
from typing import TYPE_CHECKING, Any

from .errors import PayloadError

if TYPE_CHECKING:
    import numpy.typing as npt

MAGIC = b"RO"
FORMAT = 1
HEADER_BYTES = 36
_HEAD_BYTES = 4
# Entropy coding alone: quantised values hold no repeats, so a search for them costs time and gains nothing.
_LEVEL, _WINDOW_BITS, _MEMORY_LEVEL = 6, 15, 9


class Kind(enum.Enum):
    """What an object holds."""

    UPDATE = b"U"
    DELTA = b"D"
    SNAPSHOT = b"S"


def seal(kind: Kind, body: bytes) -> bytes:
    """`body` as an object of `kind`."""
    head = MAGIC + kind.value + bytes([FORMAT])
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_HUFFMAN_ONLY)
    packed = packer.compress(body) + packer.flush()
    return head + hashlib.sha256(head + packed).digest() + packed


def sealed_limit_bytes(body_bytes: int) -> int:
    """The most bytes that an object with a body of `body_bytes` can have: what does not compress grows a little, at
    most by what zlib's `compressBound` says."""
    return HEADER_BYTES + body_bytes + (body_bytes >> 12) + (body_bytes >> 14) + (body_bytes >> 25) + 13


def unseal(kind: Kind, data: bytes, limit_bytes: int) -> bytes:
    """The body of `data`, inflated to at most `limit_bytes`.

    Raises:
        PayloadError: another kind or format, cut short, altered, with stray bytes, or over the limit.
    """
    check_whole(kind, data)
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data[HEADER_BYTES:], limit_bytes + 1)
    except zlib.error as error:
        raise PayloadError(f"the body of a {kind.name.lower()} does not inflate: {error}") from error
    if len(body) > limit_bytes:
        raise PayloadError(f"a {kind.name.lower()} of this layout has at most {limit_bytes} bytes, got more")
    if not inflater.eof or inflater.unused_data:
        raise PayloadError(f"the body of a {kind.name.lower()} is cut short or has bytes behind its end")
    return body


def check_whole(kind: Kind, data: bytes) -> None:
    """Raises PayloadError if `data` is of another kind or format, cut short or altered. Inflates nothing."""
    expected = MAGIC + kind.value + bytes([FORMAT])
    if data[:_HEAD_BYTES] != expected:
        raise PayloadError(
            f"expected a {kind.name.lower()} that starts with {expected!r}, got {data[:_HEAD_BYTES]!r}: "
            "is the other side of another release?"
        )
    if hashlib.sha256(expected + data[HEADER_BYTES:]).digest() != data[_HEAD_BYTES:HEADER_BYTES]:
        raise PayloadError(f"checksum mismatch in a {kind.name.lower()} of {len(data)} bytes: cut short or altered")


def kind_of(data: bytes) -> Kind:
    """What `data` says it is; `unseal` checks that.

    Raises:
        PayloadError: if it is no container.
    """
    try:
        return Kind(data[len(MAGIC) : _HEAD_BYTES - 1])
    except ValueError:
        raise PayloadError(
            f"expected an update, a delta or a snapshot, got bytes that start with {data[:8]!r}"
        ) from None


class Reader:
    """Takes little-endian arrays from the front of a body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take_bytes(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            PayloadError: if fewer are left.
        """
        end = self._at + count
        if end > len(self._body):
            raise PayloadError(f"expected {count} more bytes at offset {self._at} of {len(self._body)}")
        part = self._body[self._at : end]
        self._at = end
        return part

    def take(self, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The next array of `shape`; `dtype` in numpy's notation, such as `<f4`. Raises as `take_bytes`."""
        import numpy as np  # noqa: PLC0415 (the supervisor checks what is stored without it)

        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(self.take_bytes(count * kind.itemsize), dtype=kind)
        return array.reshape(shape).astype(kind.newbyteorder("="))

    def finish(self) -> None:
        """Asserts that nothing is left.

        Raises:
            PayloadError: if there are stray bytes.
        """
        if self._at != len(self._body):
            raise PayloadError(f"{len(self._body) - self._at} stray bytes behind the end of a body")
