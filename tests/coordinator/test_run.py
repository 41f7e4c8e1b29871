"""Starting a coordinator: what it refuses to start with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator import events
from coordinator.config import CoordinatorConfig
from coordinator.run import DATABASE, run
from coordinator.store import Store
from edge_agent.wire.errors import ConfigError, LinkError, PackError, StoreError
from edge_agent.wire.pack import MANIFEST, load_manifest
from edge_agent.wire.settings import BrokerSettings
from tests.brokers import free_port
from tests.models import tiny_pack
from tests.runs import make_config, start_run


def nothing(event: events.Watched) -> None:
    raise AssertionError(f"no run was to start, it told {event}")


def changed(config: CoordinatorConfig, **fields: Any) -> CoordinatorConfig:
    return msgspec.structs.replace(config, **fields)


def ranks(config: CoordinatorConfig, **fields: Any) -> CoordinatorConfig:
    return changed(config, ranks=msgspec.structs.replace(config.ranks, **fields))


@pytest.mark.parametrize(
    "change",
    [
        lambda config: changed(config, fleet="another"),
        lambda config: changed(config, seed=config.seed + 1),
        lambda config: changed(config, classes=("belt", "pump")),
        lambda config: ranks(config, initial=4),
    ],
    ids=["fleet", "seed", "classes", "initial ranks"],
)
def test_the_run_folder_of_another_fleet_is_refused(
    tmp_path: Path, change: Callable[[CoordinatorConfig], CoordinatorConfig]
) -> None:
    config = make_config(tmp_path)
    start_run(config)
    with pytest.raises(ConfigError, match="choose another run_dir"):
        run(change(config), nothing)


def test_what_may_change_between_two_starts(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    start_run(config)
    start_run(ranks(config, threshold=0.25))


def test_the_run_folder_says_what_it_is_a_run_of(tmp_path: Path) -> None:
    start_run(make_config(tmp_path))
    store = Store(tmp_path / DATABASE, read_only=True)
    assert store.get("terms") is not None
    assert store.get("config") is not None
    store.close()


def test_a_missing_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no model pack"):
        run(make_config(tmp_path, tmp_path / "nowhere"), nothing)


def test_a_pack_whose_tensors_do_not_fit_is_refused(tmp_path: Path) -> None:
    pack_dir = shutil.copytree(tiny_pack(), tmp_path / "pack")
    manifest = load_manifest(pack_dir)
    weights = tuple(name for name in manifest.block_weights if name != "output.dense.weight")
    (pack_dir / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, block_weights=weights)))
    with pytest.raises(PackError, match=r"output\.dense has no weight among those of a block: build the pack again"):
        run(make_config(tmp_path, pack_dir), nothing)


def test_a_malformed_users_file_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    (tmp_path / "users").write_text("coordinator\n")
    with pytest.raises(ConfigError, match="line 1"):
        run(config, nothing)


def test_a_run_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        run(make_config(tmp_path / "run"), nothing)


def test_a_run_ends_where_its_broker_refuses_the_password(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("coordinator:right\n")
    (tmp_path / "password").write_text("wrong")
    broker = BrokerSettings(port=free_port(), password_file=tmp_path / "password")
    with pytest.raises(LinkError):
        run(make_config(tmp_path, broker=broker), nothing)
