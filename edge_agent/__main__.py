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


def main(path: Path) -> int:
    """Runs the agent of the configuration in `path`; the exit status."""

    def run() -> int:
        agent.run(config.load(path), lambda: config.load(path))
        return 0

    return run_to_its_end(run)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
