"""What things cost, from a TOML file of the reader's own (see `profiling/prices.toml` for an example)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_agent.wire.settings import load_toml

NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the tables."""


class Data(Section, frozen=True):
    """The link of the boards."""

    per_gb: NotNegative
    """Of 10^9 bytes, up or down."""


class Energy(Section, frozen=True):
    """The boards' supply."""

    per_kwh: NotNegative
    board_w: NotNegative
    """Of a board that works, where it measured none."""


class BoardPrice(Section, frozen=True):
    """One board."""

    price: NotNegative
    lifetime_years: Positive


class Engineer(Section, frozen=True):
    """People, for the whole run."""

    per_hour: NotNegative
    fleet_hours: NotNegative
    central_hours: NotNegative


class Central(Section, frozen=True):
    """The other way: raw data sent to one machine that trains."""

    bytes_per_example: NotNegative
    machine_per_hour: NotNegative
    machine_hours: NotNegative


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    currency: str
    data: Data
    energy: Energy
    board: BoardPrice
    engineer: Engineer
    central: Central


def load_prices(path: Path) -> Prices:
    """The prices in `path`.

    Raises:
        ConfigError: the file is missing or malformed, or a price is unknown or out of range.
    """
    return load_toml(path, Prices)
