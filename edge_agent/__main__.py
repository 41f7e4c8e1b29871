"""`python -m edge_agent CONFIG`: the agent as its systemd unit runs it.

The same as `rankfleet agent run CONFIG`, without the command line's other parts, which would stay in memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_agent.service import program  # the first of ours, so that msgspec is imported as `wire.errors` wants it


def main(arguments: list[str]) -> int:
    """Runs the agent of the configuration that is the one argument; returns the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m edge_agent CONFIG\n")
        return 2
    return program.run(lambda: _run(Path(arguments[0])))


def _run(path: Path) -> int:
    from edge_agent import agent, config  # noqa: PLC0415 (after the first)

    agent.run(config.load(path), lambda: config.load(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
