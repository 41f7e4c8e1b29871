"""An experiment's configuration file (TOML), and the single runs that it asks for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from coordinator.config import HeadSettings, RankSettings, TrainingSettings
from edge_agent.wire import messages as m

Alpha = Annotated[float, Meta(gt=0, le=1000)]
BY_CLIENT = "client"
"""In place of a Dirichlet parameter: the split that the data set itself has."""


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much work one run is. Part of every result: only results of one profile can be compared."""

    rounds: m.Positive = 16
    clients: m.Positive = 20
    cohort: m.Positive = 5
    """Clients that train in a round, drawn from the seed: the same for every method."""
    depth: m.Positive = 2
    """Blocks from the top that have ranks. What lies below is computed once a text."""
    test_rows: m.Count = 1000
    """Size of the fixed sample of the test part; 0 takes all of it."""
    evaluate_every: m.Positive = 2
    """Rounds from one evaluation to the next; the last round is always evaluated."""
    device: m.CostTable | None = None
    """The device of the modelled time; without it none is modelled. Such a table is the `cost` of a device in the
    `capabilities.json` of a demo, or in a file that an agent's setting `capability` names."""
    link_bytes_per_s: m.Positive = 125_000
    """What that device's link carries, up and down."""
    rank_shares: tuple[m.Fraction, ...] = (1.0,)
    """What part of the living ranks a client can train: client `i` has the share at place `i` modulo their number."""


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was tried for the product and is not part of it: for methods that average updates."""

    momentum: m.Fraction = 0.0
    """Share of the last broadcast that is added to the next (FedAvgM: Hsu et al., arXiv 1909.06335, section 4.3)."""
    proximal: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """Pull of a client's ranks towards where its round began (FedProx: Li et al., arXiv 1812.06127, eq. 2)."""
    freeze_head: bool = False
    """Leaves the head as it starts (SphereFed: Dong et al., arXiv 2207.09413, section 3.2)."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of one method: those of the product, under the names that the coordinator's configuration has."""

    ranks: RankSettings = RankSettings()
    head: HeadSettings = HeadSettings()
    training: TrainingSettings = TrainingSettings()
    trial: Trial = Trial()


PRODUCT = "rankfleet"
"""The method that has the product's defaults."""

PUBLISHED: dict[str, dict[str, Any]] = {
    "ranks": {"initial": 8, "target": 2.0, "threshold": 0.5},
    "head": {"start": "seed"},
    "training": {
        "lr": 1e-3,
        "lr_e": 1e-2,
        "lr_head": 2e-3,
        "epsilon": 1e-8,
        "calibration": 0.0,
        "importance": "magnitude",
        "quantisation": "fp32",
    },
}
"""What stands in place of the product's defaults for all other methods: none of them has its extras."""


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that the outcome of one training depends on; its digest is the key in the cache."""

    pack: str
    """Name of the model."""
    pack_sha256: str
    dataset: str
    dataset_sha256: str
    alpha: float | None
    """Dirichlet parameter of the split; None for the split that the data set itself has."""
    seed: m.Count
    method: str
    extras: str
    """Which set of options this is: names of tables `[extras.NAME]`, joined by `+`; empty for the method as published.
    """
    options: Options
    profile: Profile

    @property
    def key(self) -> str:
        """32 hexadecimal digits that tell runs apart."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:32]


class MethodEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One method of an experiment: `extras` names tables whose settings replace the method's own, in their order."""

    name: str
    extras: tuple[str, ...] = ()
    learning_rates: tuple[m.Rate, ...] = ()
    """Overrides those of the experiment, where a search found one already."""


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration file."""

    pack: Path
    datasets: tuple[str, ...]
    """Names of fetched data sets, or folders."""
    cache: Path
    """Folder of the results."""
    methods: tuple[MethodEntry, ...]
    alphas: tuple[Alpha | str, ...] = (1.0, 0.1, 0.01)
    seeds: tuple[m.Count, ...] = (0, 1, 2)
    learning_rates: tuple[m.Rate, ...] = (1e-3,)
    """What every method's learning rate is searched among, on `search_dataset`, `search_alpha` and `search_seed`."""
    search_dataset: str = ""
    search_alpha: Alpha = 0.1
    search_seed: m.Count = 100
    profile: Profile = Profile()
    settings: dict[str, dict[str, Any]] = {}
    """Settings of all methods, such as `[settings.training]` with `local_steps = 5`."""
    extras: dict[str, dict[str, Any]] = {}
    """Named sets of options, such as `[extras.int8.training]` with `quantisation = "int8"`."""
