"""What board and gateway say to each other about releases, as JSON over HTTPS.

A board asks `GET /v1/orders` with what it runs in the query (`Facts`), is told at most one `ReleaseOrder`, and says
with `POST /v1/reports` how that went (`UpdateReport`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from packaging.version import InvalidVersion, Version

from .errors import ProtocolError
from .malformed import MALFORMED

Kind = Literal["agent", "pack"]
Reported = Literal["installed", "returned", "failed", "unfit"]
"""`unfit`: no release can be installed on this board, since something else manages its agent."""
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
# The name becomes a part of an address and is shown to people: never a path.
BundleName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")]
Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$", max_length=64)]
# Beyond what SQLite keeps, a number would end the gateway's answer.
RolloutNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]

MOST_BUNDLE_BYTES = 4 * 2**30
MOST_REASON_CHARACTERS = 1000


class Facts(msgspec.Struct, frozen=True):
    """What a board runs: the agent's version (PEP 440), `platform.machine()`, and CPython's version as `3.11`."""

    version: Word
    machine: Word
    python: Word

    def __post_init__(self) -> None:
        parse_version(self.version)


class ReleaseOrder(msgspec.Struct, frozen=True):
    """One release for one board, in the bundle that fits it."""

    name: BundleName
    sha256: Sha256
    bytes: Annotated[int, Meta(ge=1, le=MOST_BUNDLE_BYTES)]
    version: Word
    kind: Kind
    rollout: RolloutNumber
    """Number of the rollout, which the report says again."""
    returns: bool = False
    """The board is to leave this release for the one before it; it need not download anything."""


class Orders(msgspec.Struct, frozen=True):
    """The gateway's answer to a board's question."""

    renew: bool = False
    """The board is to renew its certificate."""
    release: ReleaseOrder | None = None


class UpdateReport(msgspec.Struct, frozen=True):
    """How an order went, and what the board runs now."""

    version: Word
    machine: Word
    python: Word
    release: BundleName
    rollout: RolloutNumber
    outcome: Reported
    reason: Annotated[str, Meta(max_length=MOST_REASON_CHARACTERS)] = ""


def read_orders(data: bytes) -> Orders:
    """The orders in the gateway's answer.

    Raises:
        ProtocolError: it is no such answer.
    """
    try:
        return msgspec.json.decode(data, type=Orders)
    except MALFORMED as error:
        raise ProtocolError(f"expected orders from the gateway, got something else: {error}; update both") from error


def parse_version(text: str) -> Version:
    """The version (PEP 440) in `text`.

    Raises:
        ValueError: it is none.
    """
    try:
        return Version(text)
    except InvalidVersion as error:
        raise ValueError(f"expected a version such as 1.2.0, got {text!r}") from error
