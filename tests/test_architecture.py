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
HEAVY = ("torch", "transformers", "onnx")
RESIDENT_HEAVY = (*HEAVY, "numpy", "onnxruntime", "tokenizers")
"""What costs tens of megabytes: the supervisor of a board is always there, its trainer process only for a round."""
SUPERVISOR_HEAVY = (*RESIDENT_HEAVY, "psutil", "http", "email", "zipfile", "typing_extensions")
"""The supervisor alone takes 30 MB at most (`rankfleet profile idle`), so what costs one megabyte counts too."""

DATES = {
    "coordinator/enrolment/shelf.py",
    "coordinator/enrolment/rollout_store.py",
    "coordinator/journal.py",
    "coordinator/levels.py",
    "deploy/cli/fleet.py",
    "edge_agent/doctor/clock.py",
    "edge_agent/enrolment/dates.py",
    "edge_agent/recorder.py",
    "profiling/idle.py",
    "profiling/experiments/loop.py",
    "profiling/page/fleet.py",
    "profiling/page/measure.py",
}
"""Modules that write a date into a record or a certificate, that ask whether the date is right, or whether a file has
changed, or whose limits are days, which go on while the machine is off."""
STAMPS = {"edge_agent/data_files.py"}
"""Modules that compare the times at which files changed, with each other alone."""
_WALL_CLOCK = re.compile(
    r"\b(time\.(time|time_ns|localtime|gmtime|ctime|strftime)|datetime\.\w*now|\w+\.today)\(|st_[amc]time"
)

TESTED_WITH = {
    "coordinator/enrolment/admin_routes.py": "tests/coordinator/enrolment/test_service.py",
    "coordinator/enrolment/http.py": "tests/coordinator/enrolment/test_service.py",
    "coordinator/enrolment/parts.py": "tests/coordinator/enrolment/test_service.py",
    "coordinator/enrolment/views.py": "tests/coordinator/enrolment/test_service.py",
    "coordinator/enrolment/run_folder.py": "tests/deploy/cli/test_rounds.py",
    "coordinator/web/guard.py": "tests/coordinator/web/test_app.py",
    "coordinator/web/parts.py": "tests/coordinator/web/test_app.py",
    "deploy/board/debian/__main__.py": "tests/system/test_deb.py",
    "deploy/cli/agent.py": "tests/system/test_cli.py",
    "deploy/cli/bundle.py": "tests/deploy/cli/test_deploy.py",
    "deploy/cli/agent_update.py": "tests/system/test_updates.py",
    "deploy/cli/board.py": "tests/edge_agent/enrolment/test_join.py",
    "deploy/cli/coordinator.py": "tests/system/test_cli.py",
    "deploy/cli/demo.py": "tests/system/test_cli.py",
    "deploy/cli/main.py": "tests/system/test_cli.py",
    "deploy/cli/profile.py": "tests/system/test_cli.py",
    "deploy/cli/profile_page.py": "tests/profiling/page/test_measure.py",
    "deploy/demo/run.py": "tests/system/test_demo.py",
    "deploy/folders.py": "tests/deploy/test_status.py",
    "deploy/merged_graph.py": "tests/deploy/test_export.py",
    "profiling/page/fleet.py": "tests/profiling/page/test_measure.py",
    "profiling/soak/device.py": "tests/profiling/soak/test_run.py",
    "profiling/soak/gateway.py": "tests/profiling/soak/test_run.py",
    "profiling/soak/host.py": "tests/profiling/soak/test_run.py",
    "edge_agent/releases/__main__.py": "tests/edge_agent/releases/test_options.py",
    "edge_agent/job_orders.py": "tests/edge_agent/test_agent.py",
    "edge_agent/session_events.py": "tests/edge_agent/test_session.py",
    "edge_agent/trainer_process.py": "tests/edge_agent/test_jobs.py",
    "edge_agent/wire/mqtt_connection.py": "tests/wire/test_mqtt.py",
}
"""Modules that are one matter with another, or need real processes: where their tests are instead."""

ONLY_NAMES = {
    "coordinator/events.py",
    "edge_agent/engine/protocol.py",
    "edge_agent/releases/limits.py",
    "edge_agent/wire/errors.py",
    "edge_agent/wire/malformed.py",
    "edge_agent/updating/releases.py",
}
"""Modules of names and structures, in which there is nothing to test."""


def test_import_rules_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("edge_agent.__main__", (*SUPERVISOR_HEAVY, "argparse", "deploy", "shutil")),
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


def test_nothing_but_the_date_of_a_record_is_read_off_the_wall_clock() -> None:
    """It may jump, and a board without a battery starts in 1970: what is timed is timed by the monotonic clock."""
    found = {str(module) for module in MODULES if _WALL_CLOCK.search((ROOT / module).read_text(encoding="utf-8"))}
    assert found == DATES | STAMPS


@pytest.mark.parametrize("module", [m for m in MODULES if m.name != "__init__.py"], ids=str)
def test_every_module_has_its_test_file(module: Path) -> None:
    own, name = _test_file(module), str(module)
    if name in ONLY_NAMES or name in TESTED_WITH:
        assert not own.exists(), f"{own.relative_to(ROOT)} exists by now: {module} is no exception any more"
    else:
        assert own.exists(), f"{module} has no {own.relative_to(ROOT)}"


def test_exceptions_and_what_tests_them_exist() -> None:
    assert {*ONLY_NAMES, *TESTED_WITH} <= set(map(str, MODULES))
    assert all((ROOT / path).exists() for path in TESTED_WITH.values())


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


def _test_file(module: Path) -> Path:
    """tests/ mirrors the packages; the wire, which both sides share, has a folder at the top."""
    parts = module.parent.parts
    folder = parts[1:] if parts[:2] == ("edge_agent", "wire") else parts
    return ROOT / "tests" / Path(*folder) / f"test_{module.name}"
