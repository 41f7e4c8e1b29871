"""Runs one target under libFuzzer: `python -m tests.fuzz.one_target NAME [libFuzzer's arguments]`. Needs atheris."""

from __future__ import annotations

import logging
import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["edge_agent", "coordinator"]):
    from tests.fuzz.mutations import strange
    from tests.fuzz.targets import TARGETS, Target


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    logging.getLogger("rankfleet").setLevel(logging.CRITICAL)  # an accepted refusal is no news here
    program, name, *arguments = sys.argv
    target = TARGETS[name]
    own = {"custom_mutator": _mutator(target)} if target.encoding else {}
    atheris.Setup([program, *arguments], target.run, **own)
    atheris.Fuzz()


def _mutator(target: Target):
    """libFuzzer's mutations of bytes hardly ever give other values: every second input is made of such."""

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            return atheris.Mutate(data, max_bytes)
        changed = strange(data, target.encoding, random)
        return changed if len(changed) <= max_bytes else data

    return mutate


if __name__ == "__main__":
    main()
