"""A view of the ranks with some of their parts left out, for methods that train and send only those.

Through a view the product's own quantisation, codec and aggregation work on the parts alone, so a method that sends
nothing but `B` is charged for nothing else. The view with all parts is the layout itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from coordinator.fleet_model import FleetModel
from edge_agent.wire.ranks import HEAD, Layout, Module, Rows, Table

from .method import ALL, Parts


@dataclass(frozen=True)
class View(Layout):
    """A layout whose tables hold only the chosen parts of a rank; at least one."""

    parts: Parts = ALL

    @cached_property
    def tables(self) -> dict[str, Table]:
        """All tables by name, with the groups of the chosen parts."""
        tables = {m.name: Table(m.name, self.slots, _groups(m, self.parts)) for m in self.modules}
        tables[HEAD] = Table(HEAD, self.classes, (self.d_model, 1))
        return tables


def view_of(layout: Layout, parts: Parts) -> Layout:
    """`layout` with the chosen parts only."""
    if all(parts):
        return layout
    return View(layout.modules, layout.slots, layout.classes, layout.d_model, parts)


def project(layout: Layout, rows: Rows, parts: Parts) -> Rows:
    """The chosen parts of full rows; other tables as they are. Copies."""
    modules = {module.name: module for module in layout.modules}
    return {
        name: table[:, _columns(modules[name], parts)] if name in modules else table.copy()
        for name, table in rows.items()
    }


def merge(layout: Layout, rows: Rows, chosen: Rows, parts: Parts) -> Rows:
    """Full `rows` whose chosen parts are replaced by `chosen`: the inverse of `project`."""
    merged = {name: table.copy() for name, table in chosen.items()}
    for module in layout.modules:
        merged[module.name] = rows[module.name].copy()
        merged[module.name][:, _columns(module, parts)] = chosen[module.name]
    return merged


def project_model(model: FleetModel, parts: Parts) -> FleetModel:
    """The model in the view of `parts`."""
    layout = model.state.layout
    state = replace(model.state, layout=view_of(layout, parts), rows=project(layout, model.state.rows, parts))
    return replace(model, state=state, residual=project(layout, model.residual, parts))


def merge_model(model: FleetModel, chosen: FleetModel, parts: Parts) -> FleetModel:
    """`chosen`, a later version in the view of `parts`, with the other parts as in `model`. What was pruned is zero."""
    layout = model.state.layout
    rows = merge(layout, model.state.rows, chosen.state.rows, parts)
    for module, pruned in layout.living(~chosen.state.mask):
        rows[module.name][pruned] = 0
    residual = merge(layout, model.residual, chosen.residual, parts)
    return replace(chosen, state=replace(chosen.state, layout=layout, rows=rows), residual=residual)


def _groups(module: Module, parts: Parts) -> tuple[int, ...]:
    widths = zip(parts, (module.d_in, 1, module.d_out), strict=True)
    return tuple(width for taken, width in widths if taken)


def _columns(module: Module, parts: Parts) -> npt.NDArray[np.bool_]:
    return np.repeat(np.array(parts), (module.d_in, 1, module.d_out))
