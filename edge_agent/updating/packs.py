"""Packs of the agent's state folder, as root changes them: by a process of the user whom the folder belongs to."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.updating.pack_trial import NAME_DIGITS
from edge_agent.wire.errors import PackError

TRIAL_S = 900.0
"""Longest that a trial may take: a slow card writes a pack in minutes."""
_CHILD = "edge_agent.updating.pack_trial"


@dataclass(frozen=True)
class Packs:
    """The packs below `state_dir`. A pack's name is its version: the first digits of its manifest's sha256."""

    state_dir: Path

    def install(self, bundle: Path, name: str) -> None:
        """Has a bundle's pack verified, tried, and put where the agent looks for it; nothing of it stays if it fails.

        Raises:
            PackError: says why.
            OSError: the bundle or the state folder cannot be read.
        """
        _check(name)
        try:
            self._run("install", name, bundle=bundle)
        except PackError:
            self._run("clear")
            raise

    def remove(self, name: str) -> None:
        """Deletes a pack. Raises as `install`."""
        _check(name)
        self._run("remove", name)

    def _run(self, *words: str, bundle: Path = Path(os.devnull)) -> None:
        command = [sys.executable, "-m", _CHILD, words[0], str(self.state_dir), *words[1:]]
        with bundle.open("rb") as stdin:
            try:
                done = subprocess.run(
                    command, stdin=stdin, capture_output=True, cwd="/", check=False,
                    timeout=TRIAL_S, **self._user(),
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise PackError(f"the pack's trial took more than {TRIAL_S:g} s: is memory short here?") from error
        if done.returncode < 0:
            raise PackError(f"the pack's trial was killed by signal {-done.returncode}: it does not run here")
        if done.returncode:
            said = (done.stdout.strip() or done.stderr.strip()).decode(errors="replace")
            raise PackError(said or f"the pack's trial ended with {done.returncode}")

    def _user(self) -> dict[str, Any]:
        """Whom the trial runs as; only root may choose."""
        owner = self.state_dir.stat()
        if os.geteuid() != 0 or owner.st_uid == 0:
            return {}
        return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def _check(name: str) -> None:
    if len(name) != NAME_DIGITS or set(name) - set("0123456789abcdef"):
        raise PackError(f"a pack's version has {NAME_DIGITS} hexadecimal digits, the order says {name!r}")
