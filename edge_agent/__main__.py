"""The resident process of a board: `python -m edge_agent CONFIG`.

`rankfleet agent run` becomes it once it has read its options: the parser of the command line and what that takes along
would stay in memory for good, 1.5 MB.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_agent.ending import run_to_its_end
from edge_agent.wire.lean import without_typing_extensions

with without_typing_extensions():  # whoever imports it first decides what it takes along
    import msgspec  # noqa: F401

from edge_agent import agent, config

WRONG_USAGE = 2


def main(arguments: list[str]) -> int:
    """Runs the agent of the configuration that is the one argument; returns the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m edge_agent CONFIG\n")
        return WRONG_USAGE
    return run_to_its_end(lambda: _run(Path(arguments[0])))


def _run(path: Path) -> int:
    agent.run(config.load(path), lambda: config.load(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
