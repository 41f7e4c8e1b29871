"""The log of a program: text for a person, or a line of JSON an event, with the same ids on both sides.

Every line of JSON has `date` (UTC, ISO 8601), `level`, `logger` and `event`, and as far as they are known `fleet`,
`run` (in hexadecimal, as in Welcome), `round` and `device`. What rotates the log is journald.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Literal

import msgspec

Form = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")
IDS = ("fleet", "run", "round", "device")
TEXT = "%(asctime)s %(name)s %(levelname)s: %(message)s"
Id = str | int | None

_KNOWN: dict[str, Callable[[], Id]] = {}


def begin(form: Form = "text", level: str = "info") -> None:
    """Has the program log on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(TEXT) if form == "text" else JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def concern(**ids: Id | Callable[[], Id]) -> None:
    """What the program's events are about from now on, or how to find it out when there is one."""
    for name, value in ids.items():
        _KNOWN[name] = value if callable(value) else _constant(value)


def forget() -> None:
    """Nothing is known any more of what events are about."""
    _KNOWN.clear()


class JsonLines(logging.Formatter):
    """One object a line. An id that the record has itself (`extra`) goes before that of the program."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        date = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "date": date, "level": record.levelname.lower(), "logger": record.name,
        }  # fmt: skip
        for name in IDS:
            value = getattr(record, name, None)
            if value is None and name in _KNOWN:
                value = _KNOWN[name]()
            if value is not None:
                line[name] = value
        line["event"] = record.getMessage()
        for name, more in getattr(record, "facts", {}).items():
            line[name] = more
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def _constant(value: Id) -> Callable[[], Id]:
    return lambda: value
