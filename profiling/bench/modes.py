"""Modes: the rows of the benchmark by name, and what each runs.

This project's engine: `WEIGHTS-mbN-keptK[-final]`, for example `int8-mb1-kept0`: the type of the pack's weights
(`w8a8`: int8, and products of 8-bit integers), the micro-batch, how many blocks are kept (`all` for all), and with
`-final` the final ranks of a run in place of all.
The others: `eager` and `checkpointing` (torch), `lora` and `adalora` (PEFT).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast, get_args

from edge_agent.wire.errors import ConfigError

from .spec import Method, Products

W8A8 = "w8a8"
WeightsType = Literal["int8", "fp16", "fp32"]
EAGER, CHECKPOINTING = "eager", "checkpointing"
ALL = "all"
DEFAULT = (
    "int8-mb1-kept0",
    "int8-mb2-kept0",
    "w8a8-mb1-kept0",
    "fp16-mb2-kept2",
    "w8a8-mb4-keptall",
    "fp32-mb4-keptall",
    "int8-mb1-kept0-final",
    "fp32-mb4-keptall-final",
    EAGER,
    CHECKPOINTING,
    *get_args(Method),
)
"""From the least memory to the least time, then the same two at a run's final ranks, then the others."""
_FINAL = "-final"
_PATTERN = re.compile(
    rf"(?P<weights>int8|fp16|fp32|{W8A8})-mb(?P<micro_batch>[1-9]\d*)-kept(?P<kept>\d+|{ALL})({_FINAL})?"
)


class OnnxMode(NamedTuple):
    """A mode of this project's engine. `kept_blocks` is None for all."""

    name: str
    weights: WeightsType
    products: Products
    micro_batch: int
    kept_blocks: int | None
    final: bool


class TorchMode(NamedTuple):
    """Plain torch."""

    name: str
    checkpointing: bool


class PeftMode(NamedTuple):
    """PEFT."""

    name: Method


AnyMode = OnnxMode | TorchMode | PeftMode


def parse(name: str) -> AnyMode:
    """The mode called `name`.

    Raises:
        ConfigError: there is none.
    """
    if name in (EAGER, CHECKPOINTING):
        return TorchMode(name, name == CHECKPOINTING)
    if name in get_args(Method):
        return PeftMode(cast(Method, name))
    match = _PATTERN.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"there is no mode {name!r}: expected one like int8-mb1-kept0 or fp32-mb4-keptall-final, or one of "
            f"{', '.join((EAGER, CHECKPOINTING, *get_args(Method)))}"
        )
    kept = None if match["kept"] == ALL else int(match["kept"])
    weights = "int8" if match["weights"] == W8A8 else cast(WeightsType, match["weights"])
    products: Products = "int8" if match["weights"] == W8A8 else "float32"
    return OnnxMode(name, weights, products, int(match["micro_batch"]), kept, name.endswith(_FINAL))


def full_of(name: str) -> str:
    """The mode with all ranks that the mode `name` is to be compared with."""
    return name.removesuffix(_FINAL)
