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

WRONG_USAGE = 2


def main(arguments: list[str]) -> int:
    """Runs the agent of the configuration that is the first argument; returns the exit status."""
    if not arguments or arguments[0].startswith("-") or not _are_log_options(*arguments[1:]):
        sys.stderr.write(f"usage: python -m edge_agent CONFIG [text | json [{' | '.join(logs.LEVELS)}]]\n")
        return WRONG_USAGE
    logs.begin(*arguments[1:])  # type: ignore[arg-type]  # they were looked at
    return run_to_its_end(lambda: _run(Path(arguments[0])))


def _are_log_options(form: str = "text", level: str = "info", *more: str) -> bool:
    return form in ("text", "json") and level in logs.LEVELS and not more


def _run(path: Path) -> int:
    agent.run(config.load(path), lambda: config.load(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
