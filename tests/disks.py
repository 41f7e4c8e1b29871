"""Databases as a failing disk leaves them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

GARBAGE = b"\xc1 garbage \xff"
"""Neither MessagePack, nor JSON, nor UTF-8, nor an object of ours."""


def damage(path: Path, statement: str, *values: object) -> None:
    """Changes rows of the database at `path`, which may be in use. There must be some to change."""
    db = sqlite3.connect(path, timeout=10)
    try:
        with db:
            assert db.execute(statement, values).rowcount, f"{statement} found nothing to change"
    finally:
        db.close()
