"""The resident process of a board: `python -m edge_agent CONFIG [LOG [LOG_LEVEL]]`.

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
from edge_agent.wire import logs


def main(path: Path, form: logs.Form = "text", level: str = "info") -> int:
    """Runs the agent of the configuration in `path`, which logs in this form from this level on; the exit status."""

    def run() -> int:
        agent.run(config.load(path), lambda: config.load(path))
        return 0

    logs.begin(form, level)
    return run_to_its_end(run)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))  # type: ignore[arg-type] # the command line has checked them
