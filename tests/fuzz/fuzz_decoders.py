"""Fuzzes every decoder with atheris: `python -m tests.fuzz.fuzz_decoders (--runs N | --seconds N) --seed S`.

Each target runs in a process of its own under libFuzzer, from the corpus in `corpus/<target>/`, which stays as it is.
Inputs that were not decoded or refused as documented, took more memory than the cap, or did not end, are left in
`--findings`; `python -m tests.fuzz.one_target NAME FILE` repeats one. Prints a table; ends with 1 if there are any.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.targets import CORPUS, TARGETS

RSS_LIMIT_MB = 512
INPUT_LIMIT_BYTES = 4096
PATIENCE_S = 120
"""For one input: it hangs then."""
MEMORY = Path("/dev/shm")


class Outcome(NamedTuple):
    """What one target's run came to."""

    target: str
    inputs: int
    seconds: float
    peak_rss_mb: int
    crashes: int
    said: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the targets one after the other; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--runs", type=int, help="inputs in all, divided among the targets by their shares")
    size.add_argument("--seconds", type=int, help="time in all, divided evenly; starting the targets comes on top")
    parser.add_argument("--seed", type=int, required=True, help="seed of libFuzzer")
    parser.add_argument("--findings", type=Path, default=Path("runs/fuzz"), help="folder for inputs that fail")
    options = parser.parse_args(arguments)
    names = [options.target] if options.target else list(TARGETS)
    options.findings.mkdir(parents=True, exist_ok=True)
    _print("| target | inputs | seconds | peak RSS (MB) | crashes |", "| --- | ---: | ---: | ---: | ---: |")
    bounds = _runs(names, options.runs) if options.runs else _seconds(names, options.seconds)
    outcomes = []
    for name, bound in bounds.items():
        outcomes.append(fuzz(name, bound, options.seed, options.findings))
        _print(_row(outcomes[-1]))
    total = _total(outcomes)
    _print(_row(total), "", f"Seed {options.seed}, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}.")
    _print(*(f"\n{outcome.target}:\n{outcome.said}" for outcome in outcomes if outcome.crashes))
    return 1 if total.crashes else 0


def fuzz(name: str, bound: str, seed: int, findings: Path) -> Outcome:
    """Runs one target in a process of its own, until libFuzzer's option `bound` ends it."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        found = Path(folder) / "corpus"
        found.mkdir()
        command = [sys.executable, "-m", "tests.fuzz.one_target", name, bound, *_options(seed, findings / f"{name}-")]
        began_s = time.monotonic()
        done = subprocess.run(
            [*command, str(found), str(CORPUS / name)],
            env={**os.environ, "TMPDIR": folder},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - began_s
    inputs, peak_rss_mb = (_figure(done.stderr, key) for key in ("number_of_executed_units", "peak_rss_mb"))
    failed = done.returncode != 0 or not inputs or peak_rss_mb > RSS_LIMIT_MB
    return Outcome(name, inputs, seconds, peak_rss_mb, int(failed), done.stdout + done.stderr[-4000:])


def _runs(names: Sequence[str], runs: int) -> dict[str, str]:
    """No fewer than `runs` together."""
    shares = sum(TARGETS[name].share for name in names)
    return {name: f"-runs={-int(-runs * TARGETS[name].share // shares)}" for name in names}


def _seconds(names: Sequence[str], seconds: int) -> dict[str, str]:
    return {name: f"-max_total_time={max(1, seconds // len(names))}" for name in names}


def _options(seed: int, findings: Path) -> list[str]:
    return [
        f"-seed={seed}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        f"-max_len={INPUT_LIMIT_BYTES}",
        f"-timeout={PATIENCE_S}",
        f"-report_slow_units={PATIENCE_S}",
        f"-artifact_prefix={findings}",
        "-print_final_stats=1",
        "-verbosity=0",
    ]


def _figure(text: str, key: str) -> int:
    """One of libFuzzer's final figures; 0 where it did not come to them."""
    found = re.search(rf"stat::{key}:\s*(\d+)", text)
    return int(found[1]) if found else 0


def _total(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        "all",
        sum(outcome.inputs for outcome in outcomes),
        sum(outcome.seconds for outcome in outcomes),
        max(outcome.peak_rss_mb for outcome in outcomes),
        sum(outcome.crashes for outcome in outcomes),
        "",
    )


def _row(outcome: Outcome) -> str:
    return (
        f"| {outcome.target} | {outcome.inputs} | {outcome.seconds:.0f} | {outcome.peak_rss_mb} | {outcome.crashes} |"
    )


def _print(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
