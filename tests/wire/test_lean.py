"""In fresh processes, since what is imported once stays."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from edge_agent.wire.lean import own_version


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_client_leaves_out_what_it_has_for_proxies_and_nobody_else_notices() -> None:
    code = (
        "import sys, edge_agent.wire.mqtt_connection as c\n"
        "print(*sorted({'urllib.request', 'http.client', 'email.parser', 'typing_extensions'} & set(sys.modules)))\n"
        "import urllib.request\n"
        "print(urllib.request.getproxies.__module__, c.paho.Client.__module__)"
    )
    assert python(code).splitlines() == ["urllib.request paho.mqtt.client"]  # the first line is empty


def test_what_is_loaded_already_stays() -> None:
    code = "import urllib.request as u, edge_agent.wire.mqtt_connection, sys; print(sys.modules['urllib.request'] is u)"
    assert python(code) == "True"


def test_where_a_proxy_can_be_used_nothing_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "socks.py").write_text("HTTP = SOCKS4 = SOCKS5 = 1\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import edge_agent.wire.mqtt_connection\n"
        "print('http.client' in sys.modules)"
    )
    assert python(code) == "True"


def test_the_version_is_that_of_the_metadata() -> None:
    assert own_version() == version("rankfleet")


def test_the_version_is_read_from_the_metadata_where_no_folder_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = version("rankfleet")
    monkeypatch.setattr("edge_agent.wire.lean.Path", lambda _: tmp_path)
    assert own_version() == expected
