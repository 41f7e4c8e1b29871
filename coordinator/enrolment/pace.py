"""How often one address may ask: a bucket of requests that fills up again (RFC 2697's token bucket, one colour)."""

from __future__ import annotations

import math
from collections import OrderedDict

BURST = 30.0
PER_S = 0.5
MOST_ADDRESSES = 4096


class Pace:
    """Buckets by address. `now_s` is of any clock that does not go back. The address that asked longest ago is
    forgotten first."""

    def __init__(self, burst: float = BURST, per_s: float = PER_S) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> int:
        """Takes a request from the bucket and returns 0; or the seconds to wait, rounded up, where it is empty."""
        left, since_s = self._left.pop(address, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._per_s)
        allowed = left >= 1
        self._left[address] = (left - 1 if allowed else left, now_s)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return 0 if allowed else math.ceil((1 - left) / self._per_s)

    def forget(self, address: str) -> None:
        """Gives the address a full bucket again."""
        self._left.pop(address, None)
