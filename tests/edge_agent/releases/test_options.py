"""The command line of releases, on a bare Python as on a board."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edge_agent
from deploy.cli.main import main as rankfleet
from edge_agent.releases.options import main

ROOT = Path(edge_agent.__file__).resolve().parents[1]
BARE = "import sys; sys.path[:0] = [{root!r}]; import runpy; sys.argv[1:] = {arguments!r}; "
RUN = "runpy.run_module('edge_agent.releases', run_name='__main__', alter_sys=True)"
ALL = (
    "import edge_agent.releases.command; "
    "print(*sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
)


def bare(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` on a Python that finds no installed package."""
    command = [sys.executable, "-I", "-S", "-c", BARE.format(root=str(ROOT), arguments=list(arguments)) + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_python_alone_is_enough() -> None:
    done = bare(ALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["__main__", "edge_agent"]


@pytest.mark.parametrize("command", ["install", "upgrade", "rollback", "uninstall", "status"])
def test_every_command_explains_itself(command: str) -> None:
    done = bare(RUN, command, "--help")
    assert done.returncode == 0 and "--prefix" in done.stdout


def test_wrong_usage_and_failure_have_their_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["upgrade"])
    assert main(["rollback", "--prefix", str(tmp_path)]) == 1
    assert "run the installer of your gateway first" in capsys.readouterr().err


def test_the_agents_command_line_has_the_operations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rankfleet(["agent", "upgrade", "none.tar", "--prefix", str(tmp_path)]) == 1
    assert "rankfleet: no release is installed in" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        rankfleet(["agent", "uninstall", "--purge", "--keep-data"])
