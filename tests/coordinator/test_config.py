"""The coordinator's configuration, as a file of its user and as the run folder keeps it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import CoordinatorConfig, RankSettings, TrainingSettings, decode, encode
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import BrokerSettings


def make_config(folder: Path, users: str | None = "users") -> CoordinatorConfig:
    return CoordinatorConfig(
        fleet="depot",
        pack=folder / "pack",
        classes=("größe", "pump"),
        run_dir=folder / "run",
        users_file=None if users is None else folder / users,
        broker=BrokerSettings(password_file=None if users is None else folder / "password"),
        ranks=RankSettings(target=1.5),
        training=TrainingSettings(importance="energy"),
    )


@pytest.mark.parametrize("users", ["users", None])
def test_a_stored_configuration_is_read_back(tmp_path: Path, users: str | None) -> None:
    assert decode(encode(make_config(tmp_path, users))) == make_config(tmp_path, users)


def test_a_stored_configuration_holds_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stored = encode(make_config(Path("fleet")))
    monkeypatch.chdir("/")
    assert decode(stored) == make_config(tmp_path / "fleet")


@pytest.mark.parametrize("change", [{"unheard_of": 1}, {"pack": 5}, {"seed": -1}])
def test_a_stored_configuration_of_another_version_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    stored = msgspec.json.decode(encode(make_config(tmp_path)))
    with pytest.raises(ConfigError, match="another rankfleet version"):
        decode(msgspec.json.encode({**stored, **change}))


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(ConfigError, match="another rankfleet version"):
        decode(b"{")
