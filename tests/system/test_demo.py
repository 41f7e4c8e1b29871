"""The demo itself, on the real model and the real work orders: what the README promises of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

MIB = 2**20


def _demo(out: Path, *options: str) -> dict[str, Any]:
    done = _rankfleet("demo", "--out", str(out), *options)
    assert done.returncode == 0, done.stderr + done.stdout
    return dict(json.loads((out / "summary.json").read_text(encoding="utf-8")))


def _rankfleet(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("demo") / "run"
    return out, _demo(out)


def test_the_fleet_learns_more_than_its_devices_alone(demo: tuple[Path, dict[str, Any]]) -> None:
    accuracy = demo[1]["accuracy"]
    assert accuracy["after"] >= 0.93
    assert accuracy["after"] >= accuracy["local_only"] + 0.05
    assert 0.40 < accuracy["majority_class"] < 0.43
    assert accuracy["before"] < accuracy["majority_class"]


def test_every_device_keeps_its_budget_in_every_round(demo: tuple[Path, dict[str, Any]]) -> None:
    devices = demo[1]["devices"]
    assert len(devices) == 5
    assert min(device["budget_bytes"] for device in devices) <= 256 * MIB
    for device in devices:
        assert device["peak_rss_bytes"] <= device["budget_bytes"]
        assert device["peak_anonymous_bytes"] + device["mapped_bytes"] <= device["budget_bytes"]
        assert device["rounds_completed"] == demo[1]["rounds"]


def test_ranks_are_pruned_and_updates_are_smaller_than_fp32(demo: tuple[Path, dict[str, Any]]) -> None:
    summary = demo[1]
    assert summary["ranks"] == {"initial": 144, "final": 72}
    assert 0 < summary["modules"]["pruned"] < summary["modules"]["total"]
    for device in summary["devices"]:
        assert all(0 < traffic["bytes_up"] < device["fp32_bytes"] / 3 for traffic in device["traffic"])
        assert device["bytes_up"] == sum(traffic["bytes_up"] for traffic in device["traffic"])


def test_gateway_and_agent_answer_alike(demo: tuple[Path, dict[str, Any]]) -> None:
    out, summary = demo
    agent = summary["devices"][0]["id"]
    answers = []
    for side in ([], ["--agent", agent]):
        done = _rankfleet("predict", str(out), "hydraulic hose leaking", "--json", *side)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    guesses = [answer["answers"][0]["top"][0] for answer in answers]
    assert guesses[0]["label"] == guesses[1]["label"]
    assert guesses[0]["probability"] == pytest.approx(guesses[1]["probability"], abs=1e-4)


def test_the_same_seed_and_capabilities_repeat_the_run(demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    recorded = str(demo[0] / "capabilities.json")
    one, two = (
        _demo(tmp_path / name, "--rounds", "3", "--devices", "3", "--capabilities", recorded) for name in ("1", "2")
    )
    assert one["accuracy"]["after"] == pytest.approx(two["accuracy"]["after"], abs=1e-6)
    assert one["ranks"] == two["ranks"] and one["modules"] == two["modules"]
    for first, second in zip(one["history"], two["history"], strict=True):
        assert first["accuracy"] == pytest.approx(second["accuracy"], abs=1e-6)
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-6)
        assert first["ranks_alive"] == second["ranks_alive"]
