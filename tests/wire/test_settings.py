from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.wire.errors import ConfigError
from edge_agent.wire.mqtt import TlsSettings
from edge_agent.wire.settings import BrokerSettings, load_toml, mqtt_settings, read_text


class Sample(msgspec.Struct, forbid_unknown_fields=True):
    folder: Path
    broker: BrokerSettings = BrokerSettings()


def write(folder: Path, text: str) -> Path:
    path = folder / "sample.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_its_type(tmp_path: Path) -> None:
    found = load_toml(write(tmp_path, 'folder = "a/b"\n[broker]\nport = 8883\n'), Sample)
    assert found == Sample(Path("a/b"), BrokerSettings(port=8883))


@pytest.mark.parametrize(
    "text",
    [
        "folder = 3",
        "folder = 'a'\nmore = 1",
        "",
        "folder = ",
        'folder = "\\u0000"',
        "folder = " + "9" * 5000,
        "folder = " + "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_what_does_not_parse_names_the_file_and_where_to_look(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"sample\.toml: .*see docs/configuration\.md"):
        load_toml(write(tmp_path, text), Sample)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"users: cannot read .*secret"):
        read_text(tmp_path / "secret", "users")


def test_the_password_is_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hunter2\r\nnot this\n")
    settings = mqtt_settings(BrokerSettings(password_file=tmp_path / "secret"), "pi-1")
    assert (settings.username, settings.password, settings.client_id) == ("pi-1", "hunter2", "pi-1")


def test_without_a_password_file_there_is_no_password() -> None:
    assert mqtt_settings(BrokerSettings(username="x"), "pi-1").password == ""
    assert mqtt_settings(BrokerSettings(username="x"), "pi-1").username == "x"


def test_a_link_comes_back_within_seconds_unless_it_is_configured_to_wait_longer() -> None:
    assert mqtt_settings(BrokerSettings(), "pi-1").longest_retry_s <= 8
    assert mqtt_settings(BrokerSettings(longest_retry_s=90), "pi-1").longest_retry_s == 90


@pytest.mark.parametrize("content", [b"", b"\nsecond"])
def test_an_empty_password_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigError, match=r"broker\.password_file: the first line of .*secret is empty"):
        BrokerSettings(password_file=tmp_path / "secret").password()


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"broker\.password_file: cannot read .*secret"):
        BrokerSettings(password_file=tmp_path / "secret").password()


def test_a_password_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    assert BrokerSettings(password_file=Path("secret")).resolve(tmp_path).password_file == tmp_path / "secret"
    assert BrokerSettings().resolve(tmp_path) == BrokerSettings()


def test_tls_files_are_relative_to_the_configuration_and_reach_the_link(tmp_path: Path) -> None:
    settings = BrokerSettings(ca_file=Path("ca.pem"), certificate_file=Path("me.pem"), key_file=Path("/keys/me.key"))
    assert mqtt_settings(settings.resolve(tmp_path), "pi-1").tls == TlsSettings(
        tmp_path / "ca.pem", tmp_path / "me.pem", Path("/keys/me.key")
    )
    assert mqtt_settings(BrokerSettings(), "pi-1").tls is None
