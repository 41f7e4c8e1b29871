"""Against psutil, which reads the same in another way."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from edge_agent import procfs

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="only Linux has /proc")
NESTED = "import subprocess, sys; print(1, flush=True); subprocess.run([sys.executable, '-c', 'input()'])"


def test_a_process_is_told_as_psutil_tells_it() -> None:
    found, expected = procfs.resident(os.getpid()), psutil.Process().memory_info()
    assert found.rss_bytes == pytest.approx(expected.rss, rel=0.05)
    assert found.shared_bytes == pytest.approx(expected.shared, rel=0.05)
    pss_bytes, uss_bytes = procfs.proportional(os.getpid())
    full = psutil.Process().memory_full_info()
    assert (pss_bytes, uss_bytes) == (pytest.approx(full.pss, rel=0.05), pytest.approx(full.uss, rel=0.05))


def test_the_system_is_told_as_psutil_tells_it() -> None:
    system = procfs.system()
    assert system["MemTotal"] == psutil.virtual_memory().total
    assert system["MemAvailable"] == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_descendants_are_found_at_any_depth() -> None:
    outer = subprocess.Popen([sys.executable, "-c", NESTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert outer.stdout is not None
    with outer.stdout, outer:
        outer.stdout.readline()
        while len(inner := psutil.Process(outer.pid).children()) < 1:
            pass
        assert {outer.pid, inner[0].pid} <= set(procfs.descendants(os.getpid()))
        assert procfs.parent(inner[0].pid) == outer.pid
        inner[0].kill()
        outer.kill()
    with pytest.raises(OSError):
        procfs.resident(outer.pid)
