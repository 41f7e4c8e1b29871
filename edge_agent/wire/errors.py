"""Every error that rankfleet raises on purpose, as one tree.

::

    RankfleetError            what went wrong, what was expected, what to do
    ├── ConfigError           a setting is missing, unknown or out of range
    ├── DataError             a training or test file: names the file and the line
    ├── PackError             a model pack is incomplete, altered, or of an unknown format
    ├── BudgetError           nothing fits the memory budget: names the smallest that would do
    ├── EngineError           the engine was asked for something that it cannot compute
    ├── LinkError             the broker cannot be reached, or refuses
    ├── WireError             bytes from the network that cannot be accepted
    │   ├── FrameError        not a frame of ours: magic, length, checksum, size cap
    │   ├── ProtocolError     a frame of another protocol version, or a message out of turn
    │   └── PayloadError      a well-formed frame with impossible content (NaN, shape, pruned rank)
    ├── StoreError            a database or checkpoint that cannot be written or read
    ├── FetchError            a model or data set that cannot be fetched or does not match its checksum
    └── EnrolmentError        a board that is not let in, or the gateway that cannot be asked
"""

from __future__ import annotations

from .lean import without_typing_extensions

with without_typing_extensions():  # the command line imports msgspec here first
    import msgspec

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no message: also for text that is not UTF-8, and for nesting without end."""


class RankfleetError(Exception):
    """Root of the tree: a message for a person, without a traceback."""


class ConfigError(RankfleetError):
    """A setting is missing, unknown or out of range."""


class DataError(RankfleetError):
    """A data file is missing, empty or malformed; the message names file and line."""


class PackError(RankfleetError):
    """A model pack is incomplete, altered, or of an unknown format."""


class BudgetError(RankfleetError):
    """No plan fits the memory budget.

    ``smallest_budget_bytes`` is the smallest budget for which a plan exists.
    """

    def __init__(self, message: str, smallest_budget_bytes: int) -> None:
        super().__init__(message)
        self.smallest_budget_bytes = smallest_budget_bytes


class EngineError(RankfleetError):
    """The engine was asked for something that it cannot compute."""


class LinkError(RankfleetError):
    """The broker cannot be reached, or refuses the connection."""


class WireError(RankfleetError):
    """Bytes from the network that cannot be accepted."""


class FrameError(WireError):
    """Not a frame of ours: wrong magic, length or checksum, or over the size cap."""


class ProtocolError(WireError):
    """A frame of another protocol version, or a message out of turn."""


class PayloadError(WireError):
    """A well-formed frame whose content is impossible."""


class StoreError(RankfleetError):
    """A database or checkpoint that cannot be written or read."""


class FetchError(RankfleetError):
    """A model or data set that cannot be fetched, or does not match its checksum."""


class EnrolmentError(RankfleetError):
    """A board is not let into the fleet, or the gateway cannot be asked."""
