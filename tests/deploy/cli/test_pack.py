"""`rankfleet pack`, run in this process on the tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deploy.cli.main import main
from deploy.datasets import write_jsonl
from edge_agent.data import Example
from edge_agent.wire.pack import load_manifest
from tests.models import tiny_pack, tiny_source

QUICK = ("--steps", "2", "--seeds", "2", "--batch", "4", "--tokens", "8", "--test", "4", "--threads", "1")


@pytest.fixture
def pack_dir(tmp_path: Path) -> Path:
    shutil.copytree(tiny_pack(), tmp_path / "pack")
    return tmp_path / "pack"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    rows = [Example(f"word{index % 2} word{index % 50}", ("even", "odd")[index % 2]) for index in range(12)]
    write_jsonl(tmp_path / "parity" / "train.jsonl", rows)
    write_jsonl(tmp_path / "parity" / "test.jsonl.gz", rows[:6])
    return tmp_path / "parity"


def measure(pack_dir: Path, model: Path | str, data: Path | str, *more: str) -> int:
    return main(["pack", "measure", str(pack_dir), "--model", str(model), "--data", str(data), *QUICK, *more])


def test_a_pack_says_that_it_was_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "verify", str(tiny_pack())]) == 0
    assert "not measured: rankfleet pack measure" in capsys.readouterr().out


def test_measuring_shows_the_cost_and_verifying_shows_it_again(
    pack_dir: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(pack_dir, tiny_source(tiny_pack()), data_dir) == 0
    said = capsys.readouterr()
    assert (
        "int8 weights with int8 products on parity (2 steps of 4 texts of 8 tokens, micro-batch 8, 2 seeds, 4 test"
        in (said.out)
    )
    assert "points" in said.out and "not measured" not in said.out
    assert "seed 1: accuracy" in said.err
    assert main(["pack", "verify", str(pack_dir)]) == 0
    assert capsys.readouterr().out == said.out


def test_json_is_the_manifest(pack_dir: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(pack_dir, tiny_source(tiny_pack()), data_dir, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["products"] for one in printed["accuracy"]] == ["float32", "int8"]
    assert len(load_manifest(pack_dir).accuracy) == 2


def test_careless_use_is_explained(
    pack_dir: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny_source(tiny_pack())
    for model, data, word in (
        (source, tmp_path / "nothing", "neither a folder nor a data set"),
        (data_dir, data_dir, "was not built from"),
        ("minilm-l6", data_dir, "run 'rankfleet fetch minilm-l6' first"),
        (source, "20newsgroups", "run 'rankfleet fetch 20newsgroups' first"),
    ):
        assert measure(pack_dir, model, data, "--cache", str(tmp_path / "cache")) == 1
        assert word in capsys.readouterr().err
    assert load_manifest(pack_dir).accuracy == ()
