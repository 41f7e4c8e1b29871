"""Tells new messages from those seen before, by the sender's boot and sequence number (see `frame`).

QoS 1 may deliver twice, and messages of different QoS may overtake each other, so numbers need not rise: a window of
the last `WINDOW` numbers remembers which of them came, as IPsec does (RFC 4303, section 3.4.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

WINDOW = 1024
WILL_SEQUENCE = 0


@dataclass(frozen=True)
class Seen:
    """What came from one sender: `bits` has bit `highest - n` set if number `n` came."""

    boot: int = 0
    highest: int = 0
    bits: int = 0


def admit(seen: Seen, boot: int, sequence: int) -> tuple[Seen, bool]:
    """The new memory, and whether the message is new. The last will is always new within its boot."""
    if boot < seen.boot:
        return seen, False
    if boot > seen.boot:
        seen = Seen(boot)
    if sequence == WILL_SEQUENCE:
        return seen, True
    ahead = sequence - seen.highest
    if ahead > 0:
        bits = (seen.bits << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
        return replace(seen, highest=sequence, bits=bits), True
    if -ahead >= WINDOW or seen.bits >> -ahead & 1:
        return seen, False
    return replace(seen, bits=seen.bits | 1 << -ahead), True


def everything_up_to(boot: int, sequence: int) -> Seen:
    """The memory of a receiver that restarts and only knows the highest number that came."""
    return Seen(boot, sequence, (1 << WINDOW) - 1)
