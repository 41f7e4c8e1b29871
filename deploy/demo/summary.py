"""What a demo leaves behind: `summary.json`, and a table for a person."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import msgspec

from coordinator import records
from coordinator.events import RoundRecord
from coordinator.rows import record_of
from coordinator.store import Store
from deploy.demo.layout import Device, Files
from deploy.progress import megabytes
from edge_agent.data import Example
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import Layout, Mask


class Accuracy(msgspec.Struct, frozen=True):
    """Shares of the common test set. `local_only` is the mean of the devices' models, each trained alone."""

    before: float
    after: float
    majority_class: float
    local_only: float


class Ranks(msgspec.Struct, frozen=True):
    """Living ranks at the start and at the end."""

    initial: int
    final: int


class Modules(msgspec.Struct, frozen=True):
    """Adapted layers, and how many of them lost every rank."""

    total: int
    pruned: int


class RoundTraffic(msgspec.Struct, frozen=True):
    """What one device sent and received between two of its offers, on the socket, MQTT overhead included."""

    bytes_up: int
    bytes_down: int


class DeviceSummary(msgspec.Struct, frozen=True):
    """One device over the whole run; peaks are the highest of its rounds, over its whole process tree."""

    id: str
    board: str
    examples: int
    budget_bytes: int
    peak_rss_bytes: int
    peak_anonymous_bytes: int
    mapped_bytes: int
    predicted_bytes: int
    bytes_up: int
    bytes_down: int
    pack_bytes_down: int
    rounds_completed: int
    ranks_final: int
    micro_batch: int
    depth: int
    accuracy_local_only: float
    accuracy_holdout: float | None
    traffic: tuple[RoundTraffic, ...]
    """By round. The first includes joining, the last the final model."""
    fp32_bytes: int
    """The full set of adapters and the head, whole in float32: what a round would carry each way without any of it."""


class Summary(msgspec.Struct, frozen=True):
    """The whole run."""

    data: str
    model: str
    seed: int
    rounds: int
    classes: int
    test_examples: int
    accuracy: Accuracy
    ranks: Ranks
    modules: Modules
    wall_s: float
    history: tuple[RoundRecord, ...]
    devices: tuple[DeviceSummary, ...]


def majority_share(test: list[Example]) -> float:
    """Accuracy of always saying the most frequent class of the test set."""
    return Counter(example.label for example in test).most_common(1)[0][1] / len(test)


def history(store: Store) -> tuple[RoundRecord, ...]:
    """All closed rounds."""
    return tuple(record_of(store, number, body) for number, body in store.rounds())


def device_summary(
    device: Device, reports: list[m.RoundReport], finished: m.Finished, alone: float, layout: Layout
) -> DeviceSummary:
    """What the reports of one device, in order of rounds, say of it."""
    last = reports[-1]
    return DeviceSummary(
        id=device.name,
        board=device.board.name,
        examples=last.examples,
        budget_bytes=device.board.budget_bytes,
        peak_rss_bytes=max(report.peak_rss_bytes for report in reports),
        peak_anonymous_bytes=max(report.peak_anonymous_bytes for report in reports),
        mapped_bytes=last.mapped_bytes,
        predicted_bytes=max(report.predicted_bytes for report in reports),
        bytes_up=finished.bytes_up,
        bytes_down=finished.bytes_down,
        pack_bytes_down=finished.pack_bytes_down,
        rounds_completed=len(reports),
        ranks_final=last.ranks,
        micro_batch=last.micro_batch,
        depth=last.depth,
        accuracy_local_only=alone,
        accuracy_holdout=finished.accuracy,
        traffic=round_traffic(reports, finished),
        fp32_bytes=fp32_bytes(layout, layout.full_mask()),
    )


def round_traffic(reports: list[m.RoundReport], finished: m.Finished) -> tuple[RoundTraffic, ...]:
    """Traffic by round, from the cumulative counts of the reports; a report is written before its update is sent."""
    counts = [(0, 0)] + [(r.bytes_up, r.bytes_down) for r in reports[1:]] + [(finished.bytes_up, finished.bytes_down)]
    return tuple(RoundTraffic(up - up0, down - down0) for (up0, down0), (up, down) in itertools.pairwise(counts))


def fp32_bytes(layout: Layout, mask: Mask) -> int:
    """Bytes of the living adapters and the head in float32, without any overhead."""
    head = layout.classes * (layout.d_model + 1)
    return 4 * (layout.parameters(mask) + head)


def reports_by_device(store: Store, rounds: int) -> dict[str, list[m.RoundReport]]:
    """Every report of every device, in order of rounds."""
    found: dict[str, list[m.RoundReport]] = {}
    for number in range(1, rounds + 1):
        for device, report in records.reports_of(store, number).items():
            found.setdefault(device, []).append(report)
    return found


def write(files: Files, summary: Summary) -> Path:
    """Writes `summary.json`; returns its path."""
    path = files.out / "summary.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    return path


def table(summary: Summary) -> str:
    """The run as a table for a terminal."""
    head = (
        "device",
        "board",
        "rows",
        "budget",
        "RSS peak",
        "planned",
        "used",
        "batch",
        "depth",
        "ranks",
        "sent",
        "received",
    )
    rows = [head] + [
        (
            d.id,
            d.board,
            str(d.examples),
            megabytes(d.budget_bytes),
            megabytes(d.peak_rss_bytes),
            megabytes(d.predicted_bytes),
            megabytes(d.peak_anonymous_bytes + d.mapped_bytes),
            str(d.micro_batch),
            str(d.depth),
            str(d.ranks_final),
            megabytes(d.bytes_up),
            megabytes(d.bytes_down),
        )
        for d in summary.devices
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_closing_lines(summary)])


def traffic_table(summary: Summary) -> str:
    """What one device (the first) sent and received by round, against the same adapters whole in float32."""
    device = summary.devices[0]
    lines = [f"round  ranks after  {device.id} sent  {device.id} received  whole in fp32, each way"]
    for record, traffic in zip(summary.history, device.traffic, strict=True):
        lines.append(
            f"{record.round:>5}  {record.ranks_alive:>11}  {megabytes(traffic.bytes_up):>{5 + len(device.id)}}"
            f"  {megabytes(traffic.bytes_down):>{9 + len(device.id)}}  {megabytes(device.fp32_bytes):>23}"
        )
    return "\n".join(lines)


def _closing_lines(summary: Summary) -> list[str]:
    a, r = summary.accuracy, summary.ranks
    return [
        f"accuracy on the common test set ({summary.test_examples} rows): {a.after:.3f} together, "
        f"{a.local_only:.3f} alone (mean of the devices), {a.before:.3f} before, {a.majority_class:.3f} majority class",
        f"ranks {r.initial} -> {r.final}, {summary.modules.pruned} of {summary.modules.total} modules pruned",
        f"{summary.rounds} rounds, {summary.wall_s:.0f} s in all",
    ]
