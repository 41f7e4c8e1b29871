"""Runs the kill matrix on one broker, or on all of them: `python -m tests.system.kill_matrix (--all | --broker NAME
--mqtt VERSION --limit-bytes N)`.

Prints a row for each: cases, and how long whoever was killed, or missed its peer, took to be back. What pytest said and
its JUnit file are left in `--out`; ends with 1 if a case failed.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast
from xml.etree import ElementTree

SETTING = "RANKFLEET_KILL_MATRIX"
RECOVERY = "recovery_s"
"""The JUnit property with which a case tells how long it took."""
RECOVERY_S = 10.0
HEADER = (
    "| broker | MQTT | limit (bytes) | cases | passed | recovery: median (s) | p90 | max | over 10 s | a case (s) |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
)

BrokerName = Literal["mosquitto", "amqtt"]
Version = Literal["3.1.1", "5"]


class Variant(NamedTuple):
    """One matrix: the broker, the protocol, and the largest packet that the broker takes.

    `amqtt` is the embedded broker: it speaks 3.1.1 and lives in the coordinator's process, so it dies with that and
    never alone.
    """

    broker: BrokerName
    mqtt: Version
    limit_bytes: int

    def __str__(self) -> str:
        return f"{self.broker}:{self.mqtt}:{self.limit_bytes}"


SMALLEST = Variant("mosquitto", "5", 4096)
"""That of CI: packets so small that even a tiny model's update has several chunks."""
KB_128, MB_2 = 2**17, 2**21
PRODUCT = (
    SMALLEST,
    Variant("mosquitto", "5", KB_128),
    Variant("mosquitto", "5", MB_2),
    Variant("mosquitto", "3.1.1", KB_128),
    Variant("mosquitto", "3.1.1", MB_2),
    Variant("amqtt", "3.1.1", KB_128),
)


class Case(NamedTuple):
    """What became of one case; `recovery_s` is None where it failed before."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    wall_s: float
    recovery_s: float | None
    said: str


def chosen() -> Variant:
    """The variant that this test process is to run."""
    broker, mqtt, limit = os.environ.get(SETTING, str(SMALLEST)).split(":")
    if broker not in ("mosquitto", "amqtt") or mqtt not in ("3.1.1", "5") or (broker, mqtt) == ("amqtt", "5"):
        raise ValueError(f"{SETTING} is BROKER:MQTT:LIMIT_BYTES, such as {SMALLEST} or {PRODUCT[-1]}")
    return Variant(cast(BrokerName, broker), cast(Version, mqtt), int(limit))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the matrices one after the other; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every broker, version and limit")
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), default=SMALLEST.broker)
    parser.add_argument("--mqtt", choices=("3.1.1", "5"), help="default: 5 with Mosquitto, 3.1.1 with amqtt")
    parser.add_argument("--limit-bytes", type=int, default=SMALLEST.limit_bytes, help="largest packet of the broker")
    parser.add_argument("--out", type=Path, default=Path("runs/kill-matrix"), help="folder for what pytest said")
    options, of_pytest = parser.parse_known_args(arguments)
    mqtt = options.mqtt or ("5" if options.broker == "mosquitto" else "3.1.1")
    if (options.broker, mqtt) == ("amqtt", "5"):
        parser.error("amqtt speaks MQTT 3.1.1 alone")
    variants = PRODUCT if options.all else (Variant(options.broker, mqtt, options.limit_bytes),)
    options.out.mkdir(parents=True, exist_ok=True)
    _print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores.", "", *HEADER)
    failed = 0
    for variant in variants:
        cases = run(variant, options.out, of_pytest)
        _print(row(variant, cases), *remarks(cases))
        failed += not cases or any(case.outcome == "failed" for case in cases)
    return 1 if failed else 0


def run(variant: Variant, out: Path, of_pytest: Sequence[str]) -> list[Case]:
    """Runs one matrix in a pytest of its own, with these further arguments."""
    name = str(variant).replace(":", "-")
    report, log = out / f"{name}.xml", out / f"{name}.log"
    report.unlink(missing_ok=True)
    told = (f"--junitxml={report}", "-o", "junit_family=xunit1")
    command = [sys.executable, "-m", "pytest", "-v", "tests/system/test_kill_matrix.py", *told]
    with log.open("w") as file:
        file.write(f"load average before: {os.getloadavg()}\n")
        file.flush()
        environment = {**os.environ, SETTING: str(variant)}
        subprocess.run([*command, *of_pytest], env=environment, stdout=file, stderr=file, check=False)
        file.write(f"load average after: {os.getloadavg()}\n")
    return read(report) if report.exists() else []


def read(report: Path) -> list[Case]:
    """The cases in a JUnit file."""
    return [_case(element) for element in ElementTree.parse(report).iter("testcase")]


def _case(element: ElementTree.Element) -> Case:
    found = {kind: element.find(kind) for kind in ("failure", "error", "skipped")}
    said = next((child.get("message", "") for child in found.values() if child is not None), "")
    failed = found["failure"] is not None or found["error"] is not None
    told = [item.get("value", "") for item in element.iter("property") if item.get("name") == RECOVERY]
    return Case(
        element.get("name", ""),
        "failed" if failed else "passed" if found["skipped"] is None else "skipped",
        float(element.get("time", 0)),
        float(told[0]) if told else None,
        said,
    )


def row(variant: Variant, cases: Sequence[Case]) -> str:
    """One line of the table; skipped cases are none of this variant's."""
    ran = [case for case in cases if case.outcome != "skipped"]
    passed = sum(case.outcome == "passed" for case in ran)
    times_s = sorted(case.recovery_s for case in ran if case.recovery_s is not None)
    late = sum(time_s > RECOVERY_S for time_s in times_s)
    figures = (
        [f"{time_s:.1f}" for time_s in (statistics.median(times_s), percentile(times_s, 0.9), times_s[-1])]
        if times_s
        else ["-"] * 3
    )
    case_s = f"{statistics.median(case.wall_s for case in ran):.1f}" if ran else "-"
    columns = (variant.broker, variant.mqtt, variant.limit_bytes, len(ran), passed, *figures, late, case_s)
    return f"| {' | '.join(map(str, columns))} |"


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of `ordered` that at least this share of them does not exceed."""
    return ordered[math.ceil(len(ordered) * share) - 1]


def remarks(cases: Sequence[Case]) -> list[str]:
    """What failed, and what there is not, each with its reason."""
    skipped = sorted({case.said for case in cases if case.outcome == "skipped"})
    counts = [f"    {sum(case.said == said for case in cases)} cases left out: {said}" for said in skipped]
    return counts + [f"    FAILED {case.name}: {case.said[:200]}" for case in cases if case.outcome == "failed"]


def _print(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
