"""The command line as a newcomer meets it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

COMMANDS = (
    ["demo"],
    ["fetch"],
    ["pack"],
    ["pack", "build"],
    ["pack", "verify"],
    ["pack", "measure"],
    ["coordinator"],
    ["coordinator", "run"],
    ["coordinator", "update"],
    ["coordinator", "update", "start"],
    ["coordinator", "update", "return"],
    ["agent"],
    ["agent", "run"],
    ["agent", "update"],
    *(
        ["coordinator", name]
        for name in ("token", "requests", "devices", "approve", "reject", "revoke", "rotate", "preapprove")
    ),
    ["agent", "join"],
    ["agent", "renew"],
    ["status"],
    ["predict"],
    ["export"],
    ["profile"],
    ["profile", "budget"],
)


def rankfleet(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command; whatever it says, it never shows a traceback."""
    command = [sys.executable, "-c", f"import sys; from deploy.cli.main import main; sys.exit(main({arguments!r}))"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done


def assert_fails(done: subprocess.CompletedProcess[str], *words: str, status: int = 1) -> None:
    """One line of reason on standard error, nothing on standard output."""
    assert done.returncode == status
    assert done.stdout == ""
    reason = done.stderr.strip().splitlines()[-1]
    assert reason.startswith("rankfleet")
    for word in words:
        assert word in reason


def test_alone_it_shows_what_there_is() -> None:
    done = rankfleet()
    assert done.returncode == 2
    for command in COMMANDS:
        assert command[0] in done.stdout
    assert "Exit status" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    done = rankfleet(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: rankfleet {' '.join(command)}")
    assert done.stderr == ""


def test_version() -> None:
    assert rankfleet("--version").stdout == f"rankfleet {version('rankfleet')}\n"


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("rankfleet ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["nonsense", "choose from", "demo"]),
        (["coordinator"], ["COMMAND"]),
        (["agent", "run"], ["CONFIG"]),
        (["demo", "--rounds", "0"], ["--rounds", "0"]),
        (["demo", "--rounds", "many"], ["--rounds", "many"]),
        (["demo", "--devices", "-1"], ["--devices", "-1"]),
        (["demo", "--split", "alphabet"], ["--split", "dirichlet"]),
        (["fetch"], ["NAME"]),
        (["predict", "nowhere"], ["TEXT"]),
        (["predict", "nowhere", "text", "--top", "0"], ["--top", "0"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str], words: list[str]) -> None:
    assert_fails(rankfleet(*arguments), *words, status=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch", "nonsense"], ["nonsense", "minilm-l6"]),
        (["predict", "nowhere", "hydraulic hose leaking"], ["nowhere"]),
        (["status", "nowhere"], ["nowhere"]),
        (["export", "nowhere", "model.onnx"], ["nowhere"]),
        (["pack", "verify", "nowhere"], ["nowhere", "manifest.json"]),
        (["coordinator", "run", "nowhere.toml"], ["nowhere.toml"]),
        (["agent", "run", "nowhere.toml"], ["nowhere.toml"]),
        (["pack", "build", "nowhere", "pack"], ["nowhere"]),
        (["demo", "--data", "nowhere", "--model", "nowhere"], ["nowhere"]),
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_named(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    assert_fails(rankfleet(*arguments, cwd=tmp_path), *words)
    assert not list(tmp_path.iterdir())
