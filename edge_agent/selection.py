"""Where the trained rows stand among the living ones.

The engine works on the living rows of every module; a device trains some of them. The optimizer and the importance
rules touch those only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_agent.wire.ranks import HEAD, Layout, Mask, Rows

Positions = dict[str, npt.NDArray[np.intp]]
"""Module name -> places of its trained rows in its compact table; only modules that train any."""


def trained_positions(layout: Layout, living: Mask, trained: Mask) -> Positions:
    """The places of the `trained` ranks, a subset of `living`, in the tables that `compact` makes of `living`."""
    places = {m.name: np.flatnonzero(trained[i][living[i]]) for i, m in enumerate(layout.modules)}
    return {name: rows for name, rows in places.items() if len(rows)}


def pick(rows: Rows, positions: Positions) -> Rows:
    """The trained rows of each module; copies. The head, if `rows` has one, is whole."""
    picked = {name: rows[name][places] for name, places in positions.items()}
    if HEAD in rows:
        picked[HEAD] = rows[HEAD].copy()
    return picked
