"""The tables of a report, as text in cells: the same for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from profiling.experiments.settings import Options
from profiling.table import Table

from .cells import Group, split_name
from .names import BASELINE, FLOOR, PRODUCT, PUBLISHED, STRONG
from .rows import Row
from .statistics import Estimate, Ratio
from .summary import Summary

NONE = "-"
_POINTS, _MEGABYTE, _HOUR_S = 100, 1e6, 3600
_RATES = ("lr", "lr_e", "lr_head")


NOTES = (
    f"`{PRODUCT}` is the product's default, `{PUBLISHED}` the published method.",
    "Accuracies are those on the common test sample after the last round, means over seeds; intervals (±) are 95 %, by "
    "Student's t. A single seed has none.",
    f"Differences and ratios are to FedLoRA as published (`{BASELINE}` without extras), paired: same data set, split "
    "and seed. Bytes are those of all devices, up and down together, as encoded.",
    "Equal bytes: the least that any method spends in all its rounds on that data set, split and seed, "
    f"`{FLOOR}` left aside, which trains no ranks; the accuracy there is that of the last evaluation within them.",
    f"Strong peers: the mean of {', '.join(STRONG)}. In a summary FedLoRA and the strong peers have the extras of the "
    "column 'peers'; ratios are geometric means, and 'reached' tells how many pairs come to FedLoRA's final accuracy.",
)
"""How the tables are to be read."""


def profile_table(group: Group) -> Table:
    """Every setting of the profile; of the modelled device, only whether there is one."""
    settings = msgspec.structs.asdict(group.profile) | {"device": group.profile.device is not None}
    rows = [(name, msgspec.json.encode(value).decode()) for name, value in settings.items()]
    return Table(("profile", "value"), list(rows))


def options_table(group: Group) -> Table:
    """Learning rates, and what else of the options is not the default, by method and extras."""
    rows: list[tuple[str, ...]] = []
    for arm, options in group.options.items():
        rates = [f"{getattr(options.training, rate):g}" for rate in _RATES]
        rows.append((arm.method, arm.extras or NONE, *rates, _changed(options)))
    return Table(("method", "extras", *_RATES, "other settings than the defaults"), rows, words=2)


def summary_table(summaries: Sequence[Summary]) -> Table:
    """One row an alpha and method."""
    head = (
        "alpha", "method", "extras", "peers", "data sets",
        "to FedLoRA, points", "± 95 %", "pairs",
        "to strong peers, points", "± 95 %", "pairs",
        "bytes to FedLoRA's accuracy, ratio", "95 %", "reached",
        "all bytes, ratio", "95 %",
    )  # fmt: skip
    return Table(head, [_summary_cells(one) for one in summaries], words=5)


def cell_table(rows: Sequence[Row]) -> Table:
    """One row an arm; `rows` are of one cell."""
    head = (
        "method", "extras", "seeds",
        "accuracy, %", "± 95 %",
        "to FedLoRA, points", "± 95 %",
        "MB in all", "MB to FedLoRA's accuracy", "ratio to FedLoRA's",
        "equal bytes, MB", "accuracy there, %", "± 95 %",
    )  # fmt: skip
    return Table(head, [_row_cells(row) for row in rows], words=2)


def made_of(group: Group) -> str:
    """How many runs there are, their dates and software versions, and the time that they took together."""
    results = group.results
    versions = ", ".join(sorted({one.version for one in results}))
    dates = sorted({one.date for one in results})
    period = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    hours = sum(one.wall_s for one in results) / _HOUR_S
    return f"Runs: {len(results)}; {period}; rankfleet {versions}; {hours:.2f} h of computing"


def _changed(options: Options) -> str:
    default = Options()
    changed = [
        f"{part}.{name} = {value}"
        for part in Options.__struct_fields__
        for name, value in msgspec.structs.asdict(getattr(options, part)).items()
        if name not in _RATES and value != getattr(getattr(default, part), name)
    ]
    return ", ".join(changed) or NONE


def _summary_cells(one: Summary) -> tuple[str, ...]:
    ratio, total = one.bytes_ratio_to_fedlora, one.total_bytes_ratio_to_fedlora
    return (
        split_name(one.alpha), one.method, one.extras or NONE, one.peers_extras or NONE, ", ".join(one.datasets),
        *_difference(one.difference_to_fedlora), _count(one.difference_to_fedlora),
        *_difference(one.difference_to_strong_peers), _count(one.difference_to_strong_peers),
        *_ratio(ratio), f"{one.reached} of {one.compared}",
        *_ratio(total),
    )  # fmt: skip


def _row_cells(row: Row) -> tuple[str, ...]:
    return (
        row.method, row.extras or NONE, str(row.seeds),
        _points(row.accuracy_mean), _points(row.accuracy_ci95),
        *_difference(row.paired_difference_to_fedlora),
        _megabytes(row.bytes_total), _megabytes(row.bytes_to_fedlora), _factor(row.bytes_ratio_to_fedlora),
        _megabytes(row.equal_bytes), _points(row.accuracy_at_equal_bytes), _points(row.accuracy_at_equal_bytes_ci95),
    )  # fmt: skip


def _difference(found: Estimate | None) -> tuple[str, str]:
    return (NONE, NONE) if found is None else (f"{found.mean * _POINTS:+.2f}", _points(found.ci95))


def _count(found: Estimate | None) -> str:
    return NONE if found is None else str(found.count)


def _ratio(found: Ratio | None) -> tuple[str, str]:
    if found is None:
        return NONE, NONE
    return _factor(found.mean), NONE if found.low is None else f"{_factor(found.low)} to {_factor(found.high)}"


def _points(share: float | None) -> str:
    return NONE if share is None else f"{share * _POINTS:.2f}"


def _megabytes(size_bytes: float | None) -> str:
    return NONE if size_bytes is None else f"{size_bytes / _MEGABYTE:.2f}"


def _factor(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.3f}"
