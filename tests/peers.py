"""Rounds of federated methods without an engine: a small layout, and clients whose training is made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from coordinator.config import RankSettings, TrainingSettings
from edge_agent import update
from edge_agent.importance import Float64 as Scores
from edge_agent.importance import make_scorer
from edge_agent.selection import pick, trained_positions
from edge_agent.trainer import trainable
from edge_agent.wire import codec, rowset
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import HEAD, Layout, Module, Rows, compact, keep_top
from edge_agent.wire.state import ModelState
from profiling.experiments.drift import products
from profiling.experiments.method import Client, Float32, Method, Model, Parts, Setup, Task, Upload
from profiling.experiments.settings import Options, Profile
from profiling.experiments.views import merge, project, view_of

LAYOUT = Layout(
    (Module("low", 0, 6, 5), Module("wide", 1, 6, 8), Module("tall", 1, 7, 5)), slots=4, classes=3, d_model=6
)
CLIENTS = (Client(0, 30, 1.0), Client(1, 10, 1.0), Client(2, 25, 0.5))
TOLERANCE = 1e-5


def a_setup(seed: int = 0, *, quantisation: Literal["fp32", "int8"] = "fp32", rounds: int = 8) -> Setup:
    """A run of `rounds` rounds from 4 ranks to 2 a module, the lowest block without any."""
    ranks = RankSettings(initial=LAYOUT.slots, target=2.0, warmup_rounds=1, final_rounds=1)
    options = Options(ranks=ranks, training=TrainingSettings(quantisation=quantisation))
    alive = trainable(LAYOUT, LAYOUT.full_mask(), 1)
    return Setup(LAYOUT, alive, seed, options, Profile(rounds=rounds), a_weight)


def a_weight(module: str) -> Float32:
    """The pretrained `W0 (d_out, d_in)` of a module."""
    found = next(one for one in LAYOUT.modules if one.name == module)
    return np.random.default_rng(found.d_in).standard_normal((found.d_out, found.d_in)).astype(np.float32)


def a_round(
    method: Method, setup: Setup, model: Model, number: int, clients: Sequence[Client] = CLIENTS
) -> tuple[Model, list[Upload]]:
    """The model after a round, and what the clients sent in it."""
    tasks = [method.task(setup, model, client, number) for client in clients]
    uploads = [an_upload(setup, model, client, task, number) for client, task in zip(clients, tasks, strict=True)]
    return method.close(setup, model, uploads, number), uploads


def an_upload(setup: Setup, model: Model, client: Client, task: Task, number: int) -> Upload:
    """What the client sends after training that changed all that learns by Gaussian steps."""
    start, layout = task.state or model.fleet.state, setup.layout
    rows, scores = _trained(setup, start, task, np.random.default_rng([setup.seed, client.number, number]))
    trained = task.trained if task.keep is None else keep_top(scores, task.trained, task.keep)
    view = view_of(layout, task.parts)
    scheme = find_scheme(setup.options.training.quantisation)
    part = update.Part(number, trained, int(start.mask.sum()), client.examples, scheme)
    before = replace(start, layout=view, rows=project(layout, start.rows, task.parts))
    after = project(layout, rows, task.parts)
    made, _ = update.make_update(part, before, after, scores * trained, view.empty_rows())
    body = codec.encode_update(made, view)
    limit_bytes = codec.update_limit_bytes(view)
    return Upload(client, codec.decode_update(body, view, limit_bytes=limit_bytes, allowed=trained), 1.0, body)


def client_state(start: ModelState, upload: Upload, parts: Parts) -> Rows:
    """Full tables of the client's model after its training, as far as its upload tells."""
    view = view_of(start.layout, parts)
    rows, changes = project(start.layout, start.rows, parts), upload.update.changes
    for name, places in rowset.chosen(view, changes.ranks, changes.classes).items():
        rows[name][places] += changes.rows()[name]
    return merge(start.layout, start.rows, rows, parts)


def effective(setup: Setup, model: Model) -> dict[str, Float32]:
    """`W0 + base + s B diag(E) A` of every module with ranks."""
    return weights_of(setup, model, model.fleet.state.rows)


def weights_of(setup: Setup, model: Model, rows: Rows) -> dict[str, Float32]:
    """The weights that `rows` make with the base of `model`, of every module with ranks."""
    scale = np.float32(setup.options.training.scale)
    added = products(setup.layout, rows)
    found = {}
    for module, slots in setup.layout.living(setup.alive):
        if len(slots):
            base = setup.weights(module.name) + model.base.get(module.name, np.float32(0))
            found[module.name] = base + scale * added.get(module.name, np.float32(0))
    return found


def mean_of(many: Sequence[dict[str, Float32]], weights: Sequence[float]) -> dict[str, Float32]:
    """The weighted mean of every module's arrays."""
    total = sum(weights)
    return {
        name: sum((np.float32(weight / total) * one[name] for one, weight in zip(many, weights, strict=True)))
        for name in many[0]
    }


def close_to(left: dict[str, Float32], right: dict[str, Float32]) -> bool:
    """Whether both have the same arrays, up to rounding."""
    return left.keys() == right.keys() and all(np.allclose(left[name], right[name], atol=TOLERANCE) for name in left)


def _trained(setup: Setup, start: ModelState, task: Task, draws: np.random.Generator) -> tuple[Rows, Scores]:
    """The living rows after training, and the ranks' scores."""
    layout = start.layout
    rows = compact(layout, start.rows, start.mask)
    positions = trained_positions(layout, start.mask, task.trained)
    before = pick(rows, positions)
    for module in layout.modules:
        places = positions.get(module.name, np.zeros(0, np.intp))
        learns = np.repeat(np.array(task.parts), (module.d_in, 1, module.d_out))
        step = draws.standard_normal((len(places), module.width)) * learns / 4
        rows[module.name][places] += step.astype(np.float32)
    rows[HEAD] += draws.standard_normal(rows[HEAD].shape).astype(np.float32) / 4
    scorer = make_scorer(task.importance or setup.options.training.importance, layout, task.trained)
    scorer.observe(before, pick(rows, positions))
    return rows, scorer.scores(before, pick(rows, positions))
