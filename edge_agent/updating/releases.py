"""What an updater needs of the releases of the agent on its board: `edge_agent.releases` does it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol


class Change(Protocol):
    """What became of a change of releases."""

    @property
    def kind(self) -> Literal["installed", "returned"]:
        """Whether the release that was wanted runs now, or the one before it again."""

    @property
    def reason(self) -> str:
        """Why the wanted one was left."""


class Releases(Protocol):
    """The releases of one board. Every method raises RankfleetError where nothing was changed."""

    @property
    def fixed(self) -> str:
        """Why no release can be installed on this board, ever; empty where one can."""

    def version(self) -> str:
        """The version of the current release."""

    def install(self, bundle: Path) -> Change:
        """Makes a bundle the current release: staged, switched to between rounds, looked at, and left if it fails."""

    def go_back(self) -> Change:
        """Makes the release before the current one again."""

    def recover(self) -> Change | None:
        """Brings a change to its end that was interrupted; None: there was none."""

    def agent_stopped(self) -> AbstractContextManager[None]:
        """Stops the agent and, if it ran, starts it again afterwards."""
