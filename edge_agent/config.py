"""The agent's configuration file (TOML). Every field is one setting; `docs/configuration.md` lists them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_agent.data_files import entry_point_of
from edge_agent.wire import topics
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import Products
from edge_agent.wire.settings import BrokerSettings, load_toml

EngineName = Literal["onnx", "torch"]
TorchDevice = Literal["cpu", "cuda"]


class MemorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much memory the agent may use."""

    budget_bytes: Annotated[int, Meta(ge=2**20)] | None = None
    """Bound on the process tree's anonymous memory plus the pack's mapped working set; unset: half of what the
    system says is available when the agent starts."""


class PrefixSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of the local examples' states below the trained blocks."""

    limit_bytes: Annotated[int, Meta(ge=0)] = 64 * 2**20
    """Most bytes on disk, in `state_dir`; 0 keeps nothing."""


class LocalTrainingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How this device goes about a round's training."""

    checkpoint_s: Annotated[float, Meta(ge=0)] = 60.0
    """Seconds of training between checkpoints, from which an interrupted round goes on; 0 keeps none."""


class GatewaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fleet's enrolment service, which knows this device by the certificate of `[broker]`."""

    url: str = ""
    """`https://HOST:PORT`; empty: there is none."""


class RecorderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded of every round on this device, in `state_dir`."""

    enabled: bool = True
    """Whether anything is."""
    sample_s: Annotated[float, Meta(ge=0.1)] = 1.0
    """Seconds between two looks at the board's heat, clock and power."""
    keep_rounds: Annotated[int, Meta(ge=1)] = 200
    """Rounds that a file holds before the next is begun; two are kept."""


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One agent on one board."""

    device: str
    fleet: str
    data: Path
    """A file, a folder of files, or an entry point: `python:package.module:function` (see `data_files`)."""
    state_dir: Path
    broker: BrokerSettings
    memory: MemorySettings = MemorySettings()
    prefix: PrefixSettings = PrefixSettings()
    training: LocalTrainingSettings = LocalTrainingSettings()
    data_path: Path | None = None
    """A folder in which the module of an entry point is looked for first."""
    data_check_s: Annotated[float, Meta(ge=0)] = 60.0
    """Seconds between two looks at whether data files have changed; 0: they are not looked at between rounds."""
    gateway: GatewaySettings = GatewaySettings()
    metrics_file: Path | None = None
    """Where metrics are written for node_exporter's textfile collector; its name ends with `.prom`."""
    recorder: RecorderSettings = RecorderSettings()
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    """Threads that training may use."""
    engine: EngineName = "onnx"
    """What computes: ONNX Runtime block by block, or torch with the whole frozen model on `torch_device`."""
    torch_device: TorchDevice = "cuda"
    """Where the torch engine computes; the other one takes no notice."""
    products: Products = "float32"
    """How the onnx engine multiplies with frozen matrices: exactly, or faster as 8-bit integers (int8 packs only)."""
    holdout_share: Annotated[float, Meta(ge=0, lt=1)] = 0.15
    """Share of the local data that is never trained on, only used to measure accuracy."""
    capability: Path | None = None
    """A recorded capabilities file to replay instead of measuring this device."""


def load(path: Path) -> AgentConfig:
    """The configuration in `path`; relative paths in it are relative to its folder.

    Raises:
        ConfigError: the file is missing or malformed, or a setting is unknown or out of range.
    """
    config = load_toml(path, AgentConfig)
    topics.check_name(config.device, f"{path}: device")
    topics.check_name(config.fleet, f"{path}: fleet")
    here = path.resolve().parent
    return msgspec.structs.replace(
        config,
        data=here / config.data if entry_point_of(config.data) is None else config.data,
        data_path=None if config.data_path is None else here / config.data_path,
        state_dir=here / config.state_dir,
        metrics_file=None if config.metrics_file is None else here / config.metrics_file,
        capability=None if config.capability is None else here / config.capability,
        broker=config.broker.resolve(here),
    )


def budget_bytes(config: AgentConfig, available_bytes: int) -> int:
    """The budget to keep: the configured one, or half of the memory available now.

    Raises:
        ConfigError: the configured budget is more than the system has to give.
    """
    configured = config.memory.budget_bytes
    if configured is None:
        return available_bytes // 2
    if configured > available_bytes:
        raise ConfigError(
            f"memory.budget_bytes is {configured}, but this system has only {available_bytes} bytes available: "
            "lower the budget or free memory"
        )
    return configured
