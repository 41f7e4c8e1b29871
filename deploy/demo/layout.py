"""Writes the demo's files: data of every device, passwords, configurations."""

from __future__ import annotations

import json
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deploy.datasets import Dataset, sample, split_clients, write_jsonl
from deploy.demo.settings import BOARDS, Board, Options
from edge_agent.data import Example
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.topics import COORDINATOR

FLEET = "demo"


@dataclass(frozen=True)
class Device:
    """One imitated board and its files."""

    name: str
    board: Board
    config: Path
    data: Path
    state_dir: Path
    log: Path


@dataclass(frozen=True)
class Files:
    """Where everything of one demo lies."""

    out: Path
    pack: Path
    coordinator: Path
    test: Path
    capabilities: Path
    devices: tuple[Device, ...]


class _Access(NamedTuple):
    """How a process reaches the broker."""

    port: int
    password: str


def write_files(options: Options, dataset: Dataset, pack: Path) -> Files:
    """Splits `dataset` over the devices and writes all that the processes read.

    Raises:
        ConfigError: the output folder holds something else, or the split does not fit the data.
    """
    out = _fresh(options.out)
    split = _split(options, dataset)
    users = {name: secrets.token_urlsafe(16) for name in (COORDINATOR, *split)}
    _write_private(out / "users", "".join(f"{name}:{password}\n" for name, password in users.items()))
    port = _free_port()
    devices = tuple(
        _write_device(options, out / "agents" / name, board, split[name], _Access(port, users[name]))
        for name, board in _boards(split).items()
    )
    write_jsonl(out / "test.jsonl", sample(dataset.test, options.profile.test_limit))
    _write_private(out / "coordinator.password", users[COORDINATOR])
    coordinator = out / "coordinator.toml"
    coordinator.write_text(_coordinator_toml(options, dataset, pack, port, len(devices)), encoding="utf-8")
    return Files(out, pack, coordinator, out / "test.jsonl", out / "capabilities.json", devices)


def _fresh(out: Path) -> Path:
    """An empty folder `out`; an earlier demo in it is moved aside, anything else is left alone."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: choose a folder with --out")
    if out.exists() and any(out.iterdir()):
        if not (out / "coordinator.toml").exists():
            raise ConfigError(f"{out} holds something else than a demo: choose another folder with --out")
        number = 1
        while (old := out.with_name(f"{out.name}.{number}")).exists():
            number += 1
        out.rename(old)
    out.mkdir(parents=True, exist_ok=True)
    return out.resolve()


def _split(options: Options, dataset: Dataset) -> dict[str, list[Example]]:
    by_client = all(example.client for example in dataset.train)
    how = options.split or ("client" if by_client else "dirichlet")
    return split_clients(dataset, how=how, clients=options.devices, alpha=options.alpha, seed=options.seed)


def _boards(split: dict[str, list[Example]]) -> dict[str, Board]:
    """The smallest board for the device with the fewest examples; boards repeat where there are more devices."""
    ordered = sorted(split, key=lambda name: (len(split[name]), name))
    return {name: BOARDS[place * len(BOARDS) // len(ordered)] for place, name in enumerate(ordered)}


def _write_device(options: Options, folder: Path, board: Board, examples: list[Example], access: _Access) -> Device:
    folder.mkdir(parents=True)
    write_jsonl(folder / "train.jsonl", examples)
    _write_private(folder / "password", access.password)
    lines = [
        f"device = {_quoted(folder.name)}",
        f"fleet = {_quoted(FLEET)}",
        'data = "train.jsonl"',
        'state_dir = "state"',
        "threads = 1",
        f"holdout_share = {options.profile.holdout_share}",
    ]
    if options.capabilities is not None:
        lines.append(f"capability = {_quoted(str(options.capabilities.resolve()))}")
    lines += [
        "",
        "[memory]",
        f"budget_bytes = {board.budget_bytes}",
        "",
        *_broker_lines(access.port, "password"),
    ]
    (folder / "agent.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Device(
        folder.name, board, folder / "agent.toml", folder / "train.jsonl", folder / "state", folder / "agent.log"
    )


def _coordinator_toml(options: Options, dataset: Dataset, pack: Path, port: int, devices: int) -> str:
    profile = options.profile
    rounds = options.rounds or profile.rounds
    lines = [
        f"fleet = {_quoted(FLEET)}",
        f"pack = {_quoted(str(pack.resolve()))}",
        f"classes = [{', '.join(map(_quoted, dataset.classes))}]",
        'run_dir = "."',
        'users_file = "users"',
        f"seed = {options.seed}",
        "",
        *_broker_lines(port, "coordinator.password"),
        "",
        "[round]",
        f"rounds = {rounds}",
        f"expected = {devices}",
        f"quorum = {devices}",
        "deadline_s = 600",
        "",
        "[ranks]",
        f"warmup_rounds = {min(2, max(rounds - 2, 0))}",
        f"final_rounds = {min(3, max(rounds - 4, 0))}",
        "",
        *(["[head]", 'start = "seed"', ""] if rounds == 1 else []),  # statistics would leave none to train in
        "[training]",
        f"local_steps = {profile.local_steps}",
        f"max_tokens = {profile.max_tokens}",
    ]
    return "\n".join(lines) + "\n"


def _broker_lines(port: int, password_file: str) -> list[str]:
    return ["[broker]", 'host = "127.0.0.1"', f"port = {port}", f"password_file = {_quoted(password_file)}"]


def _quoted(text: str) -> str:
    """A TOML string: as in JSON, but without surrogate pairs and with DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
