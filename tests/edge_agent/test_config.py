from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import AgentConfig, MemorySettings, budget_bytes, load
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import BrokerSettings

MINIMAL = 'device = "pi-1"\nfleet = "barn"\ndata = "texts.jsonl"\nstate_dir = "state"\n[broker]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    head = f'capability = "recorded.json"\n{MINIMAL}password_file = "secret"\n'
    config = load(write(tmp_path, head))
    assert (config.data, config.state_dir) == (tmp_path / "texts.jsonl", tmp_path / "state")
    assert (config.capability, config.broker.password_file) == (tmp_path / "recorded.json", tmp_path / "secret")


def test_absolute_paths_stay(tmp_path: Path) -> None:
    config = load(write(tmp_path, MINIMAL.replace("texts.jsonl", "/srv/texts.jsonl")))
    assert config.data == Path("/srv/texts.jsonl")


def test_an_entry_point_is_no_path_and_its_folder_is_one(tmp_path: Path) -> None:
    entry = MINIMAL.replace("texts.jsonl", "python:plant.feed:rows")
    config = load(write(tmp_path, f'data_path = "feed"\n{entry}'))
    assert (str(config.data), config.data_path) == ("python:plant.feed:rows", tmp_path / "feed")
    with pytest.raises(ConfigError, match=r"data: expected python:package\.module:function"):
        load(write(tmp_path, MINIMAL.replace("texts.jsonl", "python:plant.feed")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("device", "devise"), "devise"),
        (('"pi-1"', "1"), r"Expected `str`, got `int` - at `\$\.device`"),
        (('"pi-1"', '"pi 1"'), "device must be 1 to 64 letters"),
        (('"barn"', '"a/b"'), "fleet must be"),
        (('"texts.jsonl"', "3"), r"Expected a path, got `int` - at `\$\.data`"),
        (('"pi-1"', '"coordinator"'), "not 'coordinator'"),
        (('data = "texts.jsonl"\n', ""), "`data`"),
        (("[broker]", "threads = 0\n[broker]"), r"`int` >= 1 - at `\$\.threads`"),
        (("[broker]", "engine = 'jax'\n[broker]"), r"'jax' - at `\$\.engine`"),
        (("[broker]", "holdout_share = 1.0\n[broker]"), r"\$\.holdout_share"),
        (("[broker]", "[memory]\nbudget_bytes = 5\n[broker]"), r"\$\.memory\.budget_bytes"),
        (("[broker]", "[broker]\nprot = 1"), r"`prot`.* - at `\$\.broker`|unknown field `prot`"),
        (("[broker]", "[broker]\nport = 70000"), r"\$\.broker\.port"),
        (("[broker]", "[broker]\nprotocol = '4'"), r"\$\.broker\.protocol"),
        (("[broker]", "[broker"), "agent.toml: "),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load(write(tmp_path, MINIMAL.replace(*change)))
    assert "agent.toml" in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*agent\.toml"):
        load(tmp_path / "agent.toml")


def config_with(budget: int | None) -> AgentConfig:
    return AgentConfig("pi-1", "barn", Path("d"), Path("s"), BrokerSettings(), MemorySettings(budget))


def test_without_a_budget_half_of_what_is_available_is_used() -> None:
    assert budget_bytes(config_with(None), 1000) == 500


def test_a_budget_is_kept_as_configured() -> None:
    assert budget_bytes(config_with(2**20), 2**20) == 2**20


def test_a_budget_beyond_what_is_available_is_refused() -> None:
    with pytest.raises(ConfigError, match="only 1048575 bytes available: lower the budget"):
        budget_bytes(config_with(2**20), 2**20 - 1)
