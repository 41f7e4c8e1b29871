"""Types of options that several subcommands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_log(parser: argparse.ArgumentParser) -> None:
    """Adds how the program logs, on standard error."""
    parser.add_argument(
        "--log", choices=("text", "json"), default="text", help="lines of the log (default: %(default)s)"
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="default: %(default)s"
    )


def minimum(least: int) -> Callable[[str], int]:
    """A type of option: a whole number from `least` on."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, got {text!r}")
        return int(text)

    return convert
