"""The figures of a demo, from known reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator.store import Checkpoint, Contribution, Store
from deploy.demo.layout import Device, Files
from deploy.demo.settings import BOARDS
from deploy.demo.summary import (
    Accuracy,
    DeviceSummary,
    Modules,
    Ranks,
    RoundTraffic,
    Summary,
    device_summary,
    fp32_bytes,
    history,
    majority_share,
    reports_by_device,
    table,
    traffic_table,
    write,
)
from edge_agent.data import Example
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import Layout, Module
from tests.runs import make_record
from tests.wire.examples import REPORT

LAYOUT = Layout((Module("low", 0, 4, 3), Module("high", 1, 3, 5)), slots=3, classes=2, d_model=4)
FINISHED = m.Finished(2, 0.75, bytes_up=5000, bytes_down=90_000, pack_bytes_down=60_000)


def make_device(name: str = "a") -> Device:
    folder = Path(name)
    return Device(name, BOARDS[0], folder / "agent.toml", folder / "train.jsonl", folder / "state", folder / "log")


def report(**fields: Any) -> m.RoundReport:
    return msgspec.structs.replace(REPORT, **fields)


REPORTS = [
    report(ranks=6, depth=2, peak_rss_bytes=900, peak_anonymous_bytes=300, predicted_bytes=500, bytes_up=1000,
           bytes_down=70_000, mapped_bytes=10, micro_batch=4),
    report(ranks=4, depth=1, peak_rss_bytes=800, peak_anonymous_bytes=400, predicted_bytes=450, bytes_up=3000,
           bytes_down=80_000, mapped_bytes=20, micro_batch=8),
]  # fmt: skip


def summarise(name: str = "a") -> DeviceSummary:
    return device_summary(make_device(name), REPORTS, FINISHED, alone=0.5, layout=LAYOUT)


def make_summary() -> Summary:
    return Summary(
        data="orders",
        model="tiny",
        seed=7,
        rounds=2,
        classes=2,
        test_examples=10,
        accuracy=Accuracy(before=0.125, after=0.875, majority_class=0.25, local_only=0.5),
        ranks=Ranks(6, 4),
        modules=Modules(2, 1),
        wall_s=12.4,
        history=(make_record(1), make_record(2)),
        devices=(summarise("a"), summarise("b")),
    )


def test_peaks_are_the_highest_of_all_rounds_and_plans_those_of_the_last() -> None:
    found = summarise()
    assert (found.peak_rss_bytes, found.peak_anonymous_bytes, found.predicted_bytes) == (900, 400, 500)
    assert (found.mapped_bytes, found.micro_batch, found.depth, found.ranks_final) == (20, 8, 1, 4)
    assert (found.rounds_completed, found.accuracy_local_only, found.accuracy_holdout) == (2, 0.5, 0.75)


def test_traffic_by_round_adds_up_to_the_whole() -> None:
    found = summarise()
    assert found.traffic == (RoundTraffic(3000, 80_000), RoundTraffic(2000, 10_000))
    assert sum(traffic.bytes_up for traffic in found.traffic) == found.bytes_up == FINISHED.bytes_up
    assert sum(traffic.bytes_down for traffic in found.traffic) == found.bytes_down == FINISHED.bytes_down


def test_one_round_has_all_the_traffic() -> None:
    found = device_summary(make_device(), REPORTS[:1], FINISHED, 0.5, LAYOUT)
    assert found.traffic == (RoundTraffic(5000, 90_000),)


def test_fp32_counts_living_ranks_and_the_head() -> None:
    mask = LAYOUT.full_mask()
    assert fp32_bytes(LAYOUT, mask) == 4 * (3 * (4 + 1 + 3) + 3 * (3 + 1 + 5) + 2 * 5)
    mask[0] = False
    assert fp32_bytes(LAYOUT, mask) == 4 * (3 * (3 + 1 + 5) + 2 * 5)


def test_the_majority_class_of_the_test_set() -> None:
    assert majority_share([Example("x", label) for label in "aabac"]) == 0.6


def test_reports_and_records_come_from_the_store_in_order_of_rounds(tmp_path: Path) -> None:
    store = Store(tmp_path / "coordinator.db")
    for number in (1, 2):
        for device in ("b", "a") if number == 1 else ("a",):
            body = msgspec.msgpack.encode(report(steps=number))
            store.keep_contribution(number, Contribution(device, bytes(32), body, b"update", number))
        record = msgspec.json.encode(make_record(number))
        store.close_round(number, Checkpoint(number, b"", b"", b""), b"delta", record)
    found = reports_by_device(store, rounds=2)
    assert {device: [one.steps for one in said] for device, said in found.items()} == {"a": [1, 2], "b": [1]}
    assert history(store) == (make_record(1), make_record(2))
    store.close()


def test_the_summary_is_written_as_json_that_reads_back(tmp_path: Path) -> None:
    files = Files(tmp_path, tmp_path, tmp_path, tmp_path, tmp_path, ())
    path = write(files, make_summary())
    assert path == tmp_path / "summary.json"
    assert msgspec.json.decode(path.read_bytes(), type=Summary) == make_summary()


def test_the_table_has_a_line_a_device_and_the_four_accuracies() -> None:
    lines = table(make_summary()).splitlines()
    assert lines[1].split()[0] == "a"
    assert lines[2].split()[0] == "b"
    for shown in ("0.875 together", "0.500 alone", "0.125 before", "0.250 majority", "ranks 6 -> 4", "1 of 2 modules"):
        assert any(shown in line for line in lines), shown


@pytest.mark.parametrize("part", ["3.0 kB", "80.0 kB", "2.0 kB", "10.0 kB"])
def test_the_traffic_table_has_a_line_a_round(part: str) -> None:
    lines = traffic_table(make_summary()).splitlines()
    assert len(lines) == 1 + 2
    assert part in "\n".join(lines)
