"""What a report says, made once from the results for every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiling.experiments.record import Result

from .cells import Cell, Group, group
from .rows import Row, group_rows, profile_key
from .sensitivity import Curve, find_curves
from .summary import Summary, summarise


@dataclass(frozen=True)
class Section:
    """One model in one profile, whose `key` is that of its rows."""

    group: Group
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]

    @property
    def key(self) -> str:
        """See `rows.profile_key`."""
        return profile_key(self.group.profile)

    def cell_rows(self, cell: Cell) -> list[Row]:
        """The rows of one cell."""
        return [row for row in self.rows if (row.dataset, row.alpha) == (cell.dataset, cell.alpha)]


@dataclass(frozen=True)
class Contents:
    """`command` is what made the report."""

    command: str
    sections: tuple[Section, ...]
    curves: tuple[Curve, ...]


def collect(results: Sequence[Result], sweep: Sequence[Result], command: str) -> Contents:
    """The figures of `results`; sensitivity curves come from `sweep` as well, whose runs are in no table.

    Raises:
        ConfigError: as `cells.group`.
    """
    sections = tuple(Section(one, tuple(group_rows(one)), tuple(summarise(one))) for one in group(results))
    return Contents(command, sections, tuple(find_curves([*results, *sweep])))
