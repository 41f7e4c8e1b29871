"""How every command of rankfleet ends: in order on Ctrl-C and SIGTERM, and with a reason instead of a traceback."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from edge_agent.wire.errors import RankfleetError

FAILED, INTERRUPTED = 1, 130


def run_to_its_end(command: Callable[[], int]) -> int:
    """The exit status: that of `command`, 1 where it fails with an error of ours, 130 where it is interrupted."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return command()
    except RankfleetError as error:
        print(f"rankfleet: {error}", file=sys.stderr)  # noqa: T201 (the command's last word)
        return FAILED
    except KeyboardInterrupt:
        print("rankfleet: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def _terminate(number: int, frame: object) -> NoReturn:
    """An orderly stop, as for Ctrl-C: farewells are said and processes ended."""
    raise KeyboardInterrupt
