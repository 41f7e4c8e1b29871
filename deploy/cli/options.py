"""Types of options that several subcommands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def minimum(least: int) -> Callable[[str], int]:
    """A type of option: a whole number from `least` on."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, got {text!r}")
        return int(text)

    return convert
