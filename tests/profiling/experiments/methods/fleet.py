"""A small setup, and uploads of clients that changed its ranks at random: no engine, no data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from coordinator.config import RankSettings, TrainingSettings
from edge_agent.wire.codec import Update
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import HEAD, Layout, Mask, Module, Rows
from edge_agent.wire.rowset import quantise_rows
from edge_agent.wire.state import ModelState
from profiling.experiments.method import Client, Method, Model, Setup, Task, Upload
from profiling.experiments.settings import Options, Profile
from profiling.experiments.views import project, view_of

LAYOUT = Layout((Module("0.query", 0, 12, 10), Module("1.output", 1, 9, 14)), slots=4, classes=3, d_model=6)
SCALE = 2.0


def make_setup(layout: Layout = LAYOUT, scheme: str = "fp32", alive: Mask | None = None) -> Setup:
    return Setup(
        layout=layout,
        alive=layout.full_mask() if alive is None else alive,
        seed=3,
        options=Options(
            ranks=RankSettings(initial=layout.slots), training=TrainingSettings(scale=SCALE, quantisation=scheme)
        ),
        profile=Profile(),
        weights=lambda name: np.zeros((1, 1), np.float32),
    )


def make_client(number: int, rank_share: float = 1.0) -> Client:
    return Client(number, examples=10 * (number + 1), rank_share=rank_share)


def train(setup: Setup, model: Model, task: Task, client: Client, spread: float = 0.1) -> tuple[Upload, Rows]:
    """The upload of a client whose training changed every number that it may change, and its full rows after it."""
    layout, start = setup.layout, task.state or model.fleet.state
    view = view_of(layout, task.parts)
    rng = np.random.default_rng(client.number)
    change = {
        m.name: _draw(rng, (len(slots), view.tables[m.name].width), spread) for m, slots in view.living(task.trained)
    }
    change[HEAD] = _draw(rng, start.rows[HEAD].shape, spread)
    scheme = find_scheme(setup.options.training.quantisation)
    row_set, _ = quantise_rows(view, change, view.empty_rows(), task.trained, scheme)
    scores = task.trained.astype(np.float32)
    update = Update(1, start.version, client.examples, task.trained, scores, row_set)
    return Upload(client, update, 1.0, b""), full_rows(layout, start, task, update)


def full_rows(layout: Layout, start: ModelState, task: Task, update: Update) -> Rows:
    """Full tables of what a client holds after training; zeros where it has no rank."""
    columns = project(layout, {m.name: np.arange(m.width)[None, :] for m in layout.modules}, task.parts)
    rows = {name: table.copy() for name, table in start.rows.items()}
    values = update.changes.rows()
    for module, slots in layout.living(task.trained):
        rows[module.name][np.ix_(slots, columns[module.name][0])] += values[module.name]
    for module, dead in layout.living(~start.mask):
        rows[module.name][dead] = 0
    rows[HEAD] += values[HEAD]
    return rows


def play(
    method: Method, setup: Setup, model: Model, clients: list[Client], number: int = 1
) -> tuple[Model, list[Rows]]:
    """One round of all `clients`: the model after it, and what every client had."""
    given = [train(setup, model, method.task(setup, model, client, 1), client) for client in clients]
    return method.close(setup, model, [upload for upload, _ in given], 1), [rows for _, rows in given]


def product(module: Module, rows: Rows) -> npt.NDArray[np.float64]:
    """`B diag(E) A` of full tables."""
    table = rows[module.name].astype(np.float64)
    a, e, b = table[:, : module.d_in], table[:, module.d_in], table[:, module.d_in + 1 :]
    return (b * e[:, None]).T @ a


def mean_product(module: Module, clients: list[Client], rows: list[Rows]) -> npt.NDArray[np.float64]:
    """Of all clients, weighted by their examples."""
    total = sum(client.examples for client in clients)
    return sum(client.examples / total * product(module, one) for client, one in zip(clients, rows, strict=True))


def with_learned(setup: Setup, model: Model) -> Model:
    """A model in the middle of its training: `B` is not zero."""
    rng = np.random.default_rng(7)
    rows = {name: table.copy() for name, table in model.fleet.state.rows.items()}
    for module, slots in setup.layout.living(model.fleet.state.mask):
        rows[module.name][slots, module.d_in + 1 :] = _draw(rng, (len(slots), module.d_out), 0.3)
    return replace(model, fleet=replace(model.fleet, state=replace(model.fleet.state, rows=rows)))


def _draw(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> npt.NDArray[np.float32]:
    return rng.normal(0, spread, shape).astype(np.float32)
