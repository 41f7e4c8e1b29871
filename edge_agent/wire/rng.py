"""Random draws that are the same bits on every platform.

Every draw in rankfleet comes from a generator named by what it is for:
`generator(seed, "device-3", "batches", 7)`. The words are those of the counter-based generator Philox4x64-10
(Salmon et al., SC 2011), which is integer arithmetic throughout. All that is built on them uses integers and
single IEEE operations: numpy's own normal method calls the C library in its tails, whose last bit differs
between platforms.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import numpy.typing as npt

_KEY_BYTES = 16  # Philox4x64 has a key of 128 bits
_PIECES = 12  # 16-bit integers in one Gaussian value
_PIECE_BITS = 16
_CENTRE = _PIECES * (2**_PIECE_BITS - 1) // 2


def generator(seed: int, *path: int | str) -> Generator:
    """The generator of one purpose; different paths give independent streams.

    JSON is the encoding because it keeps `1` and `"1"`, and `("a", "b")` and `("ab",)`, apart.
    """
    name = json.dumps([seed, *path], separators=(",", ":")).encode("ascii")
    key = hashlib.sha256(name).digest()[:_KEY_BYTES]
    return Generator(int.from_bytes(key, "little"))


class Generator:
    """A stream of 64-bit words under a 128-bit `key`, and what can be made of them exactly."""

    def __init__(self, key: int) -> None:
        self._bits = np.random.Philox(key=key)

    def words(self, n: int) -> npt.NDArray[np.uint64]:
        """The next `n` words of the stream."""
        return np.asarray(self._bits.random_raw(n), dtype=np.uint64)

    def uniform(self, n: int) -> npt.NDArray[np.float64]:
        """`n` multiples of 2**-53 in [0, 1)."""
        return np.asarray(self.words(n) >> np.uint64(11), dtype=np.float64) * 2.0**-53

    def gaussian(self, shape: tuple[int, ...], sigma: float) -> npt.NDArray[np.float32]:
        """Approximately normal values of mean 0 and standard deviation `sigma`, within `6 * sigma`.

        The centred sum of twelve uniform 16-bit integers (Irwin-Hall) has variance 2**32 to nine digits; it
        fits a float32 exactly, so the only rounding is that of the multiplication by `sigma`.
        """
        count = math.prod(shape)
        pieces = self.words(count * _PIECES * _PIECE_BITS // 64).view(np.uint16).reshape(count, _PIECES)
        centred = pieces.sum(axis=1, dtype=np.int64) - _CENTRE
        values: npt.NDArray[np.float32] = centred.astype(np.float32) * np.float32(2.0**-_PIECE_BITS)
        values *= np.float32(sigma)
        return values.reshape(shape)

    def permutation(self, n: int) -> npt.NDArray[np.intp]:
        """The integers below `n` in random order."""
        return np.argsort(self.words(n), kind="stable")

    def integers(self, n: int, high: int) -> npt.NDArray[np.int64]:
        """`n` integers in `[0, high)`, `high` at most 2**63; the modulus has a bias below `high / 2**64`."""
        return np.asarray(self.words(n) % np.uint64(high), dtype=np.int64)
