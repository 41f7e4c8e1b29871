"""How a program of ours ends: exit statuses, and an orderly stop on SIGTERM as on Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from edge_agent.wire.errors import RankfleetError


def run(action: Callable[[], int]) -> int:
    """The exit status of `action`; 1 where it raises an error of ours, 130 where it was interrupted, each with a line
    on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return action()
    except RankfleetError as error:
        sys.stderr.write(f"rankfleet: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("rankfleet: interrupted\n")
        return 130


def _terminate(number: int, frame: object) -> NoReturn:
    """Farewells are said and processes ended."""
    raise KeyboardInterrupt
