"""The demo's files: what the processes read of them, who may read them, and what is never overwritten."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from coordinator import config as coordinator_config
from deploy.datasets import Dataset
from deploy.demo.layout import Files, write_files
from deploy.demo.settings import BOARDS, PROFILES, Options
from edge_agent import config as agent_config
from edge_agent.data import Example, read_examples
from edge_agent.wire.errors import ConfigError

CLASSES = ("größe \N{WRENCH}", 'pump "b"')


def make_dataset(*clients: str | None) -> Dataset:
    """Of each client, two more rows than of the one before."""
    train = [
        Example(f"text {client} {row}", CLASSES[row % 2], client)
        for place, client in enumerate(clients)
        for row in range(4 + 2 * place)
    ]
    return Dataset("orders", train, [Example(f"test {row}", CLASSES[row % 2]) for row in range(6)], CLASSES)


def make_options(out: Path, **changes: Any) -> Options:
    settings: dict[str, Any] = {
        "data": "orders",
        "model": "tiny",
        "out": out,
        "rounds": None,
        "devices": 3,
        "seed": 7,
        "split": None,
        "alpha": 0.5,
        "capabilities": None,
        "cache": out.parent / "cache",
    }
    return Options(**{**settings, **changes})


def write(out: Path, dataset: Dataset | None = None, **options: Any) -> Files:
    return write_files(make_options(out, **options), dataset or make_dataset("a", "b", "c"), out.parent / "pack")


def test_both_sides_can_read_their_configuration(tmp_path: Path) -> None:
    files = write(tmp_path / "out")
    fleet = coordinator_config.load(files.coordinator)
    assert (fleet.classes, fleet.seed, fleet.run_dir) == (CLASSES, 7, files.out)
    assert fleet.round.expected == fleet.round.quorum == 3
    users = coordinator_config.load_users(files.out / "users")
    assert users["coordinator"] == fleet.broker.password()
    for device in files.devices:
        agent = agent_config.load(device.config)
        assert (agent.device, agent.fleet, agent.data) == (device.name, fleet.fleet, device.data)
        assert (agent.broker.port, agent.broker.password()) == (fleet.broker.port, users[device.name])
        assert agent.memory.budget_bytes == device.board.budget_bytes
        assert agent.state_dir == device.state_dir


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 5, 6, 12, 100])
def test_any_number_of_rounds_leaves_some_for_pruning(tmp_path: Path, rounds: int) -> None:
    fleet = coordinator_config.load(write(tmp_path / "out", rounds=rounds).coordinator)
    assert fleet.round.rounds == rounds
    assert fleet.ranks.warmup_rounds + fleet.ranks.final_rounds < rounds


def test_every_row_of_the_data_reaches_one_device(tmp_path: Path) -> None:
    dataset = make_dataset("a", "b", "c")
    files = write(tmp_path / "out", dataset)
    rows = [example.text for device in files.devices for example in read_examples(device.data, CLASSES)]
    assert sorted(rows) == sorted(example.text for example in dataset.train)
    assert len(read_examples(files.test, CLASSES)) == len(dataset.test)


def test_data_without_clients_is_dealt_by_dirichlet(tmp_path: Path) -> None:
    files = write(tmp_path / "out", make_dataset(None), devices=2)
    assert len(files.devices) == 2


def test_the_smallest_board_has_the_fewest_rows(tmp_path: Path) -> None:
    files = write(tmp_path / "out", make_dataset(*"abcdef"), devices=6)
    budgets = [device.board.budget_bytes for device in files.devices]
    rows = [len(read_examples(device.data, CLASSES)) for device in files.devices]
    assert budgets == sorted(budgets)
    assert rows == sorted(rows)
    assert files.devices[0].board == BOARDS[0]


def test_secrets_and_data_are_the_owners_alone(tmp_path: Path) -> None:
    files = write(tmp_path / "out")
    secret = [files.out / "users", files.out / "coordinator.password", files.test]
    for device in files.devices:
        secret += [device.config.parent / "password", device.data]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


def test_passwords_are_never_the_same(tmp_path: Path) -> None:
    users = [coordinator_config.load_users(write(tmp_path / name).out / "users") for name in ("one", "two")]
    passwords = [password for each in users for password in each.values()]
    assert len(set(passwords)) == len(passwords) == 8


def test_capabilities_are_replayed_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "capabilities.json"
    files = write(tmp_path / "out", capabilities=path)
    assert {agent_config.load(device.config).capability for device in files.devices} == {path}


def test_an_earlier_demo_is_moved_aside(tmp_path: Path) -> None:
    before = (write(tmp_path / "out").out / "users").read_text()
    write(tmp_path / "out")
    write(tmp_path / "out")
    assert (tmp_path / "out.1" / "users").read_text() == before
    assert (tmp_path / "out.2" / "coordinator.toml").exists()


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert write(tmp_path / "out").out == tmp_path / "out"


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="something else"):
        write(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("years of work")
    with pytest.raises(ConfigError, match="is a file"):
        write(tmp_path / "out")


def test_too_many_devices_for_the_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write(tmp_path / "out", devices=4)


def test_the_profile_of_the_data_is_used(tmp_path: Path) -> None:
    files = write(tmp_path / "out", data="20newsgroups")
    fleet, profile = coordinator_config.load(files.coordinator), PROFILES["20newsgroups"]
    assert (fleet.round.rounds, fleet.training.local_steps) == (profile.rounds, profile.local_steps)
    assert fleet.training.max_tokens == profile.max_tokens
