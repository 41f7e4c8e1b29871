"""Changes to valid inputs: of bytes, and of single values in what JSON or MessagePack encode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Literal

import msgspec

Encoding = Literal["json", "msgpack"]
MOST_CHANGES = 4
MOST_INSERTED_BYTES = 40
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**24, 2**31, 2**40, 2**53, 2**63, -(2**63), 2**64 - 1),
    *(0.5, -0.0, 1e-300, 1e300, -1e300, math.nan, math.inf, -math.inf),
    *("", "\0", "head", "../x", "a" * 200, "\u2028", b"", b"\xff" * 32, [], {}, [[]], {"": 0}),
)
"""Values at and beyond the limits of what messages and settings may hold."""


def mutated(inputs: Sequence[bytes], random: Random) -> bytes:
    """One of `inputs` with bytes flipped, cut out, inserted, or taken from another."""
    data = random.choice(inputs)
    for _ in range(random.randint(1, MOST_CHANGES)):
        change = random.choice((_flipped, _cut, _longer))
        data = change(data, random)
    return _spliced(data, random.choice(inputs), random) if random.random() < 0.2 else data


def strange(data: bytes, encoding: Encoding, random: Random) -> bytes:
    """`data` with one value replaced, left out or repeated; as it is where it does not decode."""
    try:
        tree = CODECS[encoding].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data
    place = random.choice([*_places(tree), None])
    if place is None:
        return _encoded(random.choice(STRANGE), encoding, data)
    parent, key = place
    change = random.random()
    if change < 0.15:
        del parent[key]
    elif change < 0.3 and isinstance(parent, list):
        parent[key:key] = [parent[key]] * random.choice((1, 2, 100))
    else:
        parent[key] = random.choice(STRANGE)
    return _encoded(tree, encoding, data)


def _flipped(data: bytes, random: Random) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ random.randint(1, 255)]) + data[at + 1 :]


def _cut(data: bytes, random: Random) -> bytes:
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return data[:start] + data[end:]


def _longer(data: bytes, random: Random) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.randbytes(random.randint(1, MOST_INSERTED_BYTES)) + data[at:]


def _spliced(data: bytes, other: bytes, random: Random) -> bytes:
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in `tree` but itself, as its container and its key there."""
    keys: Sequence[Any] = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _encoded(tree: Any, encoding: Encoding, otherwise: bytes) -> bytes:
    try:
        return CODECS[encoding].encode(tree)
    except (msgspec.EncodeError, UnicodeEncodeError, RecursionError, OverflowError):
        return otherwise


CODECS: dict[str, Any] = {"json": msgspec.json, "msgpack": msgspec.msgpack}
