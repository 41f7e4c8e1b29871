"""The shape of the code base: who may import whom, how large a file may grow, what a board has to install."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("edge_agent", "coordinator", "profiling", "deploy")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_LINES = 400
HEAVY = ("torch", "transformers", "onnx", "onnxscript")
RESIDENT_HEAVY = (*HEAVY, "numpy", "onnxruntime", "tokenizers")
"""What costs tens of megabytes: the supervisor of a board is always there, its trainer process only for a round."""


def test_import_rules_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("edge_agent.agent", RESIDENT_HEAVY),
        ("edge_agent.trainer_process", HEAVY),
        ("coordinator.run", (*HEAVY, "onnxruntime", "tokenizers")),
        ("deploy.cli.main", (*RESIDENT_HEAVY, "amqtt", "paho")),
        ("deploy.cli.agent", RESIDENT_HEAVY),
        ("deploy.cli.coordinator", HEAVY),
    ],
)
def test_importing_a_module_leaves_the_heavy_ones_out(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(forbidden)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_too_long(module: Path) -> None:
    lines = len((ROOT / module).read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_LINES, f"{module} has {lines} lines: split it"


def test_what_a_board_installs_names_no_heavy_package() -> None:
    base = [line for line in requires("rankfleet") or [] if "extra ==" not in line]
    names = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in base}
    assert "onnxruntime" in names
    assert not names & {*HEAVY, "amqtt", "safetensors"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_unpickles(module: Path) -> None:
    """Bytes from the network must never become code."""
    text = (ROOT / module).read_text(encoding="utf-8")
    assert not re.search(r"^\s*(import|from)\s+(pickle|cloudpickle|dill|joblib|marshal|shelve)\b", text, re.MULTILINE)
    assert "allow_pickle=True" not in text
