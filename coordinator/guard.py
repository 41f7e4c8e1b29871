"""What a device may send: how large a change, and how many messages.

Pure: the shell (`server`, `intake`) tells the time and does what is decided here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edge_agent.wire.codec import Update
from edge_agent.wire.quantise import Quantised

BURST_S = 10.0
"""A device may send so many seconds' worth of messages at once: the chunks that it was asked for come together."""


@dataclass(frozen=True)
class Bucket:
    """A token bucket: what is left of a device's messages, and when it was last filled (monotonic seconds)."""

    tokens: float
    at_s: float
    flooding: bool = False
    """Whether the last message was dropped."""


def take(bucket: Bucket | None, now_s: float, messages_per_s: float) -> Bucket:
    """The bucket after one message at `now_s`; the message is to be dropped where it is `flooding`."""
    most = messages_per_s * BURST_S
    full = Bucket(most, now_s) if bucket is None else bucket
    tokens = min(most, full.tokens + (now_s - full.at_s) * messages_per_s)
    return Bucket(max(tokens - 1, 0), now_s, flooding=False) if tokens >= 1 else Bucket(tokens, now_s, flooding=True)


def root_mean_square(update: Update) -> float:
    """Of all numbers that `update` changes; 0 where it changes none."""
    rows = [table for table in update.changes.rows().values() if table.size]
    count = sum(table.size for table in rows)
    return math.sqrt(sum(float(np.square(table, dtype=np.float64).sum()) for table in rows) / count) if count else 0.0


def clipped(update: Update, limit: float) -> Update:
    """`update` scaled down to a root mean square of `limit`; itself where it is within it.

    What a device may do to the mean is bounded by that (Sun et al., "Can you really backdoor federated learning?",
    arXiv 1911.07963, section 3: norm thresholding).
    """
    found = root_mean_square(update)
    if found <= limit:
        return update
    tables = {name: _scaled(table, limit / found) for name, table in update.changes.tables.items()}
    return replace(update, changes=replace(update.changes, tables=tables))


def _scaled(table: Quantised, factor: float) -> Quantised:
    small = np.float32(factor)
    if table.scheme.levels:
        return replace(table, scales=table.scales * small, exact=table.exact * small)
    return replace(table, codes=(table.codes * small).astype(table.codes.dtype), exact=table.exact * small)
