from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from coordinator.enrolment.installer import gateway_url, pasted_line, render
from edge_agent.wire.errors import ConfigError

TEMPLATE = "#!/bin/sh\ncat <<'END'\n@CA@\nEND\necho \"@FLEET@ @GATEWAY@ @BROKER_PORT@ $*\"\n"
CA = b"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"


def test_placeholders_become_the_fleets_values() -> None:
    text = render(TEMPLATE, CA, "https://gw:8443", "site", 8883).decode()
    assert CA.decode() in text
    assert 'echo "site https://gw:8443 8883 $*"' in text


@pytest.mark.parametrize("template", ["@CA@ @GATEWAY@ @BROKER_PORT@", TEMPLATE + "@OTHER@", ""])
def test_a_template_with_other_placeholders_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="@FLEET@"):
        render(template, CA, "https://gw:8443", "site", 8883)


@pytest.mark.parametrize(
    ("ca_pem", "gateway", "fleet"),
    [
        (b"'; reboot; '", "https://gw:8443", "site"),
        (CA + CA, "https://gw:8443", "site"),
        (CA, "https://gw:8443'; reboot; '", "site"),
        (CA, "http://gw:8443", "site"),
        (CA, "https://gw:8443", "$(reboot)"),
        (CA, "https://gw:8443", "@CA@"),
    ],
)
def test_nothing_but_its_values_can_be_put_into_the_script(ca_pem: bytes, gateway: str, fleet: str) -> None:
    with pytest.raises(ConfigError, match="installer cannot be made"):
        render(TEMPLATE, ca_pem, gateway, fleet, 8883)


def test_addresses_are_written_as_in_a_url() -> None:
    assert gateway_url("gw.local", 1) == "https://gw.local:1"
    assert gateway_url("fd00::1", 1) == "https://[fd00::1]:1"
    with pytest.raises(ConfigError, match="host name"):
        gateway_url("gw; reboot", 1)


def run(line: str, folder: Path, served: bytes) -> subprocess.CompletedProcess[str]:
    """The line in a shell in which curl fetches `served`, and sudo does nothing but start its command."""
    (folder / "served").write_bytes(served)
    for name, body in {"curl": f'cp "{folder}/served" "$4"', "sudo": '"$@"'}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_line_runs_the_installer_if_it_is_the_one(tmp_path: Path) -> None:
    installer = render(TEMPLATE, CA, "https://gw:8443", "site", 8883)
    line = pasted_line("https://gw:8443", installer, "abc", "pi-1")
    assert "\n" not in line
    assert hashlib.sha256(installer).hexdigest() in line
    done = run(line, tmp_path, installer)
    assert done.stdout.splitlines()[-1] == "site https://gw:8443 8883 --token abc --device pi-1"
    forged = run(line, tmp_path, installer + b"echo forged\n")
    assert forged.returncode != 0
    assert "forged" not in forged.stdout
    assert "site" not in forged.stdout
