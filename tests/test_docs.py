"""The documentation says what the program does: what it names exists, and nothing that exists is missing in it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from coordinator.config import (
    AggregationSettings,
    CoordinatorConfig,
    FallbackSettings,
    GuardSettings,
    HeadSettings,
    ObjectiveSettings,
    RankSettings,
    RoundSettings,
    TrainingSettings,
)
from coordinator.enrolment.fleet import FleetSettings
from deploy.cli.main import SUBCOMMANDS
from deploy.fetch.catalogue import CATALOGUE
from edge_agent.config import (
    AgentConfig,
    GatewaySettings,
    LocalTrainingSettings,
    MemorySettings,
    PrefixSettings,
    RecorderSettings,
)
from edge_agent.wire.settings import BrokerSettings
from profiling.experiments.settings import Experiment, MethodEntry, Profile, Trial
from profiling.experiments.sweep import Factors

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (
    CoordinatorConfig,
    RoundSettings,
    RankSettings,
    AggregationSettings,
    GuardSettings,
    FallbackSettings,
    ObjectiveSettings,
    HeadSettings,
    TrainingSettings,
    BrokerSettings,
    AgentConfig,
    LocalTrainingSettings,
    MemorySettings,
    PrefixSettings,
    GatewaySettings,
    RecorderSettings,
)
EXPERIMENT_SETTINGS = (Experiment, MethodEntry, Profile, Trial, Factors)
EXPERIMENT_SECTIONS = {"profile", "settings", "extras"}
SECTIONS = {
    "broker",
    "round",
    "ranks",
    "aggregation",
    "guard",
    "fallback",
    "objectives",
    "head",
    "training",
    "memory",
    "prefix",
    "gateway",
    "recorder",
}


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_every_setting_is_documented_with_its_default(kind: type[msgspec.Struct]) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for field in msgspec.structs.fields(kind):
        if field.name in SECTIONS:
            assert f"`[{field.name}]`" in page
            continue
        rows = [line for line in page.splitlines() if line.startswith(f"| `{field.name}` |")]
        assert rows, f"{kind.__name__}.{field.name} is not in docs/configuration.md"
        if isinstance(field.default, (int, float)):
            assert any(_shows(row, field.default) for row in rows), field


def test_every_setting_of_a_fleet_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    for field in msgspec.structs.fields(FleetSettings):
        rows = [line for line in page.splitlines() if line.startswith(f"| `{field.name}` |")]
        assert len(rows) == 1, field.name
        assert field.required or _shows(rows[0], field.default)


@pytest.mark.parametrize("kind", EXPERIMENT_SETTINGS, ids=lambda kind: kind.__name__)
def test_every_setting_of_an_experiment_is_documented_with_its_default(kind: type[msgspec.Struct]) -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    for field in msgspec.structs.fields(kind):
        if field.name in EXPERIMENT_SECTIONS:
            assert f"[{field.name}" in page
            continue
        rows = [line for line in page.splitlines() if line.startswith(f"| `{field.name}` |")]
        assert rows, f"{kind.__name__}.{field.name} is not in docs/experiments.md"
        assert any(_shows(row, field.default) for row in rows), f"{kind.__name__}.{field.name}: {field.default!r}"


def _shows(row: str, default: object) -> bool:
    """Whether the row's second cell has the default, where that is a value that a file would have."""
    cell = row.split("|")[2].strip()
    if isinstance(default, tuple) and default:
        return cell == ", ".join(map(str, default))
    if isinstance(default, bool):
        return cell == str(default).lower()
    if isinstance(default, (int, float)):
        return cell in {f"{default:g}", str(default)}
    return cell != ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_path_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target
    for path in re.findall(r"`((?:edge_agent|coordinator|profiling|deploy|tests|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_command_has_a_help_text_and_is_named_in_the_readme(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", command, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) > 3
    assert f"rankfleet {command}" in README


@pytest.mark.parametrize("target", re.findall(r"^\s*make ([\w-]+)", README, re.MULTILINE))
def test_every_make_command_of_the_readme_is_a_target(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_can_be_fetched_is_named_in_the_readme() -> None:
    assert all(f"`{name}`" in README for name in CATALOGUE)


def test_shell_scripts_parse() -> None:
    bash = shutil.which("bash")
    assert bash is not None
    assert subprocess.run([bash, "-n", str(ROOT / ".ci" / "run")], check=False).returncode == 0


@pytest.mark.parametrize("command", ["run", "report", "sweep"])
def test_every_command_of_experiments_is_in_their_documentation(command: str) -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert f"rankfleet experiment {command}" in page


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_page_names_exists(document: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w./]+\.py)::(\w+)`", document.read_text(encoding="utf-8")):
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_every_refusal_of_the_installer_is_on_its_page_with_a_remedy() -> None:
    script = (ROOT / "deploy" / "board" / "install.sh").read_text(encoding="utf-8").replace("\\\n", "")
    refusals = re.findall(r'(?:fail|misused) "(.+?)"', script)
    assert len(refusals) > 25
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    named = [re.escape(name).replace(r"\.\.\.", ".+") for row in rows for name in re.findall("`([^`]+)`", row[1])]
    missing = [text for text in refusals if not any(re.search(name, text) for name in named)]
    assert not missing
