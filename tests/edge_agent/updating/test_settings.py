"""The updater reads its part of the agent's configuration, whatever else is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.updating import settings
from edge_agent.wire.errors import ConfigError

TEXT = """
device = "pi-1"
state_dir = "state"
of_a_newer_release = 1
[gateway]
url = "https://gw:8443"
[broker]
host = "gw"
ca_file = "identity/ca.pem"
certificate_file = "identity/device.pem"
key_file = "/keys/device.key"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_of_a_newer_release_are_none_of_its_business(tmp_path: Path) -> None:
    config = settings.load(write(tmp_path, TEXT))
    assert (config.device, config.gateway.url) == ("pi-1", "https://gw:8443")
    assert config.state_dir == tmp_path / "state"
    assert config.broker.certificate_file == tmp_path / "identity" / "device.pem"
    assert config.broker.key_file == Path("/keys/device.key")


@pytest.mark.parametrize("line", ['url = "https://gw:8443"', 'key_file = "/keys/device.key"', 'state_dir = "state"'])
def test_a_board_that_is_not_enrolled_is_told_what_is_missing(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=line.split(" ", maxsplit=1)[0]):
        settings.load(write(tmp_path, TEXT.replace(line, "")))


def test_a_gateway_without_tls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.url"):
        settings.load(write(tmp_path, TEXT.replace("https://", "http://")))
