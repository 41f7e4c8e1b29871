"""A command ends with a status and a line, and in order where it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from edge_agent.ending import run_to_its_end
from edge_agent.wire.errors import ConfigError


def fail(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(ConfigError("no such device"), 1, "rankfleet: no such device"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_an_error_of_ours_is_a_line_and_a_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_to_its_end(lambda: fail(error)) == status
    assert said in capsys.readouterr().err


def test_what_is_no_error_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_to_its_end(lambda: 1 // 0)
    assert run_to_its_end(lambda: 3) == 3


def test_sigterm_stops_in_order() -> None:
    code = (
        "import sys, time; from edge_agent.ending import run_to_its_end\n"
        "def act():\n    try: print(flush=True); time.sleep(60)\n    finally: print('farewell')\n"
        "sys.exit(run_to_its_end(act))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.read() == "farewell\n"
    assert process.returncode == 130
