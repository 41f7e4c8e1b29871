"""What devices tell of their classes, for a head to start from: the table that both sides address.

It is the head table of a layout of its own, which has no module. First one row a class, `[mean * SCALE (d_model) |
share]`: the mean pooled state, and the part of the device's examples that has the class. Then the *axes*, the principal
directions of what examples deviate from the mean of their class, each as long as the standard deviation along it, the
longest first: `[axis * SCALE (d_model) | rest]`. The first axis has as its `rest` the standard deviation, times
`SCALE`, that the axes leave to every dimension; the others have zero. Rows of zeros do not travel.
"""

from __future__ import annotations

from edge_agent.wire.messages import PlanWork
from edge_agent.wire.ranks import Layout

SCALE = 2.0**-4
"""States travel so much smaller: those of some models exceed the limit of a value. Exact, and codes stay."""


def most_axes(d_model: int) -> int:
    """The most axes that a device sends: beyond, the covariance itself would be as small."""
    return d_model // 2


def statistics_layout(layout: Layout) -> Layout:
    """The layout of statistics of the classes of `layout`."""
    return Layout((), layout.slots, layout.classes + most_axes(layout.d_model), layout.d_model)


def update_layout(layout: Layout, work: PlanWork) -> Layout:
    """The layout of the updates of a round for `work` in a fleet of `layout`."""
    return layout if work == "train" else statistics_layout(layout)
