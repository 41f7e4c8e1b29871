"""What msgspec raises for bytes that are no message: apart from the tree of errors, which needs Python alone."""

from __future__ import annotations

import msgspec

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Also for text that is not UTF-8, and for nesting without end."""
