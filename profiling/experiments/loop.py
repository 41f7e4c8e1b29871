"""One run: rounds of federated training in this process, with the product's code for all but the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from coordinator import fleet_model
from edge_agent import update
from edge_agent.trainer import Trained
from edge_agent.wire import codec
from edge_agent.wire.class_statistics import statistics_layout
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Layout, Rows, keep_top
from edge_agent.wire.rng import generator
from edge_agent.wire.state import ModelState

from .clients import Clients
from .downloads import Downloads
from .drift import client_drift
from .method import Client, Method, Parts, Setup, Task, Upload, mean_loss
from .record import Result, RoundResult
from .registry import METHODS
from .settings import Run
from .traffic import Wire
from .views import merge, project, view_of

Say = Callable[[int, int, float | None], None]
"""Told after every round: its number, how many there are, and the accuracy where it was evaluated."""


def execute(run: Run, pack: Path, dataset: str, cache: Path, say: Say) -> Result:
    """Trains `run` from its beginning to its end. The same run gives the same result on the same machine.

    Args:
        run: what to train.
        pack: the folder of its model pack.
        dataset: name or folder of its data set.
        cache: folder in which the states of frozen blocks are kept for other runs.
        say: told of every round.

    Raises:
        RankfleetError: the pack or the data cannot be used, or training diverged.
    """
    start_s = time.perf_counter()
    federation = Federation(run, METHODS[run.method](), Clients(run, pack, dataset, cache))
    start_accuracy = federation.accuracy()
    rounds = []
    for number in range(1, run.profile.rounds + 1):
        rounds.append(federation.round(number))
        say(number, run.profile.rounds, rounds[-1].accuracy)
    return Result(
        run=run,
        modules=tuple(module.name for module in federation.setup.layout.modules),
        start_accuracy=start_accuracy,
        rounds=tuple(rounds),
        wall_s=time.perf_counter() - start_s,
        date=datetime.now(timezone.utc).date().isoformat(),
        version=version("rankfleet"),
    )


@dataclass
class _Device:
    """What a client keeps between its rounds: the version it holds, and what quantisation lost."""

    client: Client
    version: int
    residual: Rows


@dataclass(frozen=True)
class _Contribution:
    """What one client gave to a round, and what it took."""

    upload: Upload
    start: ModelState
    trained: Trained
    bytes_up: int
    bytes_down: int
    device_s: float | None


class Federation:
    """A fleet and its server: `method` decides, `clients` work, and objects pass between them as on the wire."""

    def __init__(self, run: Run, method: Method, clients: Clients) -> None:
        self._run = run
        self._method = method
        self._clients = clients
        self._scheme = find_scheme(run.options.training.quantisation)
        self.setup = Setup(clients.layout, clients.alive, run.seed, run.options, run.profile, clients.engine.pretrained)
        self._model = method.start(self.setup)
        clients.engine.set_base(self._model.base)
        self._downloads = Downloads(self._model)
        self._wire = Wire()
        self._devices = [_Device(client, 0, clients.layout.empty_rows()) for client in clients.all]

    def accuracy(self) -> float:
        """Of the server's model on the test sample."""
        return self._clients.accuracy(self._model.fleet.state)

    def round(self, number: int) -> RoundResult:
        """Round `number`: where the options ask for it, the first gives the head its start; in all others the cohort
        trains and the method closes."""
        work = self._run.options.head.first_work()
        if number == 1 and work != "train":
            return self._start_head(number, axes=work == "class_axes")
        given = [self._contribute(self._devices[place], number) for place in self._cohort(number)]
        self._model = self._method.close(self.setup, self._model, [one.upload for one in given], number)
        self._clients.engine.set_base(self._model.base)
        self._downloads.add(self._model, self._method.parts(number))
        due = number % self._run.profile.evaluate_every == 0 or number == self._run.profile.rounds
        return RoundResult(
            round=number,
            bytes_up=sum(one.bytes_up for one in given),
            bytes_down=sum(one.bytes_down for one in given),
            loss=mean_loss([one.upload for one in given]),
            accuracy=self.accuracy() if due else None,
            device_s=_slowest([one.device_s for one in given]),
            drift=_drift(self.setup.layout, given),
            ranks=self._ranks(),
        )

    def _start_head(self, number: int, *, axes: bool) -> RoundResult:
        """A round of all clients in which none trains."""
        state, layout = self._model.fleet.state, statistics_layout(self.setup.layout)
        limit_bytes = codec.update_limit_bytes(layout)
        updates, bytes_up, times_s = [], 0, []
        for device in self._devices:
            client = device.client
            part = update.Part(number, self.setup.alive, 1, client.examples, self._scheme)
            made = update.make_statistics(part, state, self._clients.class_statistics(client, state, axes=axes))
            arrived, sent_bytes = self._wire.up(client.name, codec.encode_update(made, layout))
            updates.append(codec.decode_update(arrived, layout, limit_bytes=limit_bytes))
            bytes_up += sent_bytes
            times_s.append(self._clients.looking_s(client, sent_bytes))
        closing = fleet_model.start_head(self._model.fleet, updates, self._scheme)
        self._model = replace(self._model, fleet=closing.model, broadcast=(closing.delta,))
        self._downloads.add(self._model, Parts(False, False, False))
        return RoundResult(number, bytes_up, 0, None, self.accuracy(), _slowest(times_s), None, self._ranks())

    def _ranks(self) -> tuple[int, ...]:
        return tuple(self._model.fleet.state.mask.sum(axis=1).tolist())

    def _cohort(self, number: int) -> list[int]:
        """The same for every method: drawn from the seed and the round alone."""
        order = generator(self._run.seed, "cohort", number).permutation(len(self._devices))
        return sorted(order[: self._run.profile.cohort].tolist())

    def _contribute(self, device: _Device, number: int) -> _Contribution:
        """One client's round, from its download to its upload."""
        client, missed = device.client, self._downloads.since(device.version)
        bytes_down = sum(self._wire.down(client.name, body)[1] for body in missed)
        device.version = self._downloads.version
        task = self._method.task(self.setup, self._model, client, number)
        start = task.state or self._model.fleet.state
        trained, masks = self._clients.train(client, task, start, number), [task.trained]
        if task.keep is not None:
            task = replace(task, trained=keep_top(trained.scores, task.trained, task.keep))
            trained = self._clients.train(client, task, start, number)
            masks.append(task.trained)
        arrived, bytes_up = self._wire.up(client.name, self._encode(device, task, start, trained, number))
        view = view_of(self.setup.layout, task.parts)
        limit_bytes = codec.update_limit_bytes(view)
        received = codec.decode_update(arrived, view, limit_bytes=limit_bytes, allowed=task.trained)
        upload = Upload(client, received, trained.loss, arrived)
        device_s = self._clients.training_s(client, masks, bytes_up + bytes_down)
        return _Contribution(upload, start, trained, bytes_up, bytes_down, device_s)

    def _encode(self, device: _Device, task: Task, start: ModelState, trained: Trained, number: int) -> bytes:
        """The object that the client sends, by the product's quantisation with error feedback."""
        layout, parts = self.setup.layout, task.parts
        view = view_of(layout, parts)
        budget = self._method.budget_ranks(self.setup, self._model, number)
        living = int(self._model.fleet.state.mask.sum())
        part = update.Part(number, task.trained, budget or living, device.client.examples, self._scheme)
        before = replace(start, layout=view, rows=project(layout, start.rows, parts))
        after = project(layout, trained.rows, parts)
        residual = project(layout, device.residual, parts)
        made, left = update.make_update(part, before, after, trained.scores, residual)
        if task.feedback:
            device.residual = merge(layout, device.residual, left, parts)
        return codec.encode_update(made, view)


def _drift(layout: Layout, given: Sequence[_Contribution]) -> float | None:
    changes = []
    for one in given:
        after = layout.empty_rows()
        for module, slots in layout.living(one.start.mask):
            after[module.name][slots] = one.trained.rows[module.name]
        changes.append((one.start.rows, after, float(one.upload.update.examples)))
    return client_drift(layout, changes)


def _slowest(times_s: Sequence[float | None]) -> float | None:
    """The time of the device that the others wait for; None where none is modelled."""
    return max((one for one in times_s if one is not None), default=None)
