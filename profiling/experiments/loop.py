"""One run: rounds of federated training in this process, with the product's code for all but the network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from coordinator import fleet_model
from edge_agent import trainer, update
from edge_agent.calibration import log_prior
from edge_agent.class_means import class_means
from edge_agent.optimizer import Rates
from edge_agent.prefix import FrozenPrefix, PrefixCache, key_of
from edge_agent.reading import Reading
from edge_agent.tokenise import Tokeniser
from edge_agent.trainer import Trained, Work, evaluate, rates_of, trainable
from edge_agent.watch import Footing
from edge_agent.wire import codec, cost
from edge_agent.wire import messages as m
from edge_agent.wire.pack import TOKENIZER, Manifest, load_manifest, module_layout
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Layout, Mask, Rows, compact
from edge_agent.wire.rng import generator
from edge_agent.wire.state import ModelState

from .data import Share, SharedStates, load_corpus, states_folder
from .device_time import DeviceTime
from .downloads import Downloads
from .drift import client_drift
from .engine import ExperimentEngine
from .method import Client, Method, Parts, Setup, Task, Upload
from .record import Result, RoundResult
from .registry import METHODS
from .settings import Run
from .traffic import Wire
from .views import merge, project, view_of

Say = Callable[[int, int, float | None], None]
"""Told after every round: its number, how many there are, and the accuracy where it was evaluated."""

EVALUATION_BATCH = 32
STATES_LIMIT_BYTES = 2**40
"""Experiments run where there is a disk."""


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
    federation = Federation(run, METHODS[run.method](), pack, dataset, cache)
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
    """What one client gave to a round."""

    upload: Upload
    trained: Trained
    start: ModelState
    bytes_up: int
    bytes_down: int
    device_s: float | None


class Federation:
    """A fleet of clients and its server in one process; one frozen model for all."""

    def __init__(self, run: Run, method: Method, pack: Path, dataset: str, cache: Path) -> None:
        manifest = load_manifest(pack)
        options = run.options
        self._run = run
        self._method = method
        self._training = m.Training(**msgspec.structs.asdict(options.training))
        self._tokeniser = Tokeniser(pack / TOKENIZER, manifest.pad_token_id, options.training.max_tokens)
        self._corpus = load_corpus(dataset, run, self._tokeniser)
        layout = module_layout(manifest, options.ranks.initial, len(self._corpus.classes))
        self._engine = ExperimentEngine(pack, layout, scale=options.training.scale)
        self._lowest = layout.blocks - min(run.profile.depth, layout.blocks)
        alive = trainable(layout, layout.full_mask(), self._lowest)
        self.setup = Setup(layout, alive, run.seed, options, run.profile, self._engine.pretrained)
        self._prefix = self._shared_states(cache)
        self._model = method.start(self.setup)
        self._engine.set_base(self._model.base)
        self._downloads = Downloads()
        self._wire = Wire()
        self._time = _device_time(run, manifest, self.setup.layout, self._training)
        self._devices = [self._device(place) for place in range(len(self._corpus.clients))]

    def round(self, number: int) -> RoundResult:
        """One round: the cohort trains, the server closes, and the model may be evaluated."""
        if number == 1 and self._run.options.head.start == "class_means":
            return self._start_head(number)
        given = [self._contribute(self._devices[place], number) for place in self._cohort(number)]
        self._model = self._method.close(self.setup, self._model, [one.upload for one in given], number)
        self._engine.set_base(self._model.base)
        self._downloads.add(self._model, self._method.parts(number))
        examples = sum(one.upload.update.examples for one in given)
        due = number % self._run.profile.evaluate_every == 0 or number == self._run.profile.rounds
        return RoundResult(
            round=number,
            bytes_up=sum(one.bytes_up for one in given),
            bytes_down=sum(one.bytes_down for one in given),
            loss=sum(one.trained.loss * one.upload.update.examples for one in given) / examples,
            accuracy=self.accuracy() if due else None,
            device_s=_slowest([one.device_s for one in given]),
            drift=self._drift(given),
            ranks=tuple(self._model.fleet.state.mask.sum(axis=1).tolist()),
        )

    def _start_head(self, number: int) -> RoundResult:
        """A round of all clients in which none trains: the head gets its start."""
        state, scheme = self._model.fleet.state, find_scheme(self._training.quantisation)
        updates, bytes_up, times_s = [], 0, []
        for device in self._devices:
            share = self._corpus.clients[device.client.number]
            means = class_means(self._engine, state, self._reading(share))
            part = update.Part(number, self.setup.alive, 1, device.client.examples, scheme)
            body = codec.encode_update(update.make_means(part, state, means), state.layout)
            arrived, sent = self._wire.up(device.client.name, body)
            limit_bytes = codec.update_limit_bytes(state.layout)
            updates.append(codec.decode_update(arrived, state.layout, limit_bytes=limit_bytes))
            bytes_up += sent
            times_s.append(self._looking_s(share, sent))
        closing = fleet_model.start_head(self._model.fleet, updates, scheme)
        self._model = replace(self._model, fleet=closing.model, broadcast=(closing.delta,))
        self._downloads.add(self._model, Parts(False, False, False))
        ranks = tuple(state.mask.sum(axis=1).tolist())
        return RoundResult(number, bytes_up, 0, None, self.accuracy(), _slowest(times_s), None, ranks)

    def accuracy(self) -> float:
        """Of the server's model on the test sample."""
        test = self._corpus.test
        score = evaluate(self._engine, self._model.fleet.state, self._reading(test))
        return score.correct / score.total

    def _reading(self, share: Share) -> Reading:
        states = SharedStates(self._prefix, share.places)
        return Reading(share.tokens, self._tokeniser, EVALUATION_BATCH, EVALUATION_BATCH, states)

    def _device(self, place: int) -> _Device:
        shares = self._run.profile.rank_shares
        client = Client(place, len(self._corpus.clients[place].tokens), shares[place % len(shares)])
        return _Device(client, 0, self.setup.layout.empty_rows())

    def _cohort(self, number: int) -> list[int]:
        """The same for every method: drawn from the seed and the round alone."""
        order = generator(self._run.seed, "cohort", number).permutation(len(self._devices))
        return sorted(order[: self._run.profile.cohort].tolist())

    def _contribute(self, device: _Device, number: int) -> _Contribution:
        """One client's round, from its download to its upload."""
        bytes_down = sum(self._wire.down(device.client.name, body)[1] for body in self._downloads.since(device.version))
        device.version = self._downloads.version
        task = self._method.task(self.setup, self._model, device.client, number)
        start = task.state or self._model.fleet.state
        trained = self._train(device.client, task, start, number)
        body = self._encode(device, task, start, trained, number)
        arrived, bytes_up = self._wire.up(device.client.name, body)
        view = view_of(self.setup.layout, task.parts)
        limit_bytes = codec.update_limit_bytes(view)
        received = codec.decode_update(arrived, view, limit_bytes=limit_bytes, allowed=task.trained)
        return _Contribution(
            Upload(device.client, received, trained.loss, arrived),
            trained,
            start,
            bytes_up,
            bytes_down,
            self._training_s(device, task.trained, bytes_up + bytes_down),
        )

    def _training_s(self, device: _Device, trained: Mask, transferred_bytes: int) -> float | None:
        """Modelled time of a client's round."""
        if self._time is None:
            return None
        share = self._corpus.clients[device.client.number]
        tokens = cost.bucket(share.tokens.longest, self._tokeniser.buckets)
        steps = self._training.local_steps or math.ceil(len(share.tokens) / self._training.batch_size)
        return self._time.training_s(trained, tokens, steps) + self._time.transfer_s(transferred_bytes)

    def _looking_s(self, share: Share, transferred_bytes: int) -> float | None:
        """Modelled time of a client's round in which it only looks at its data."""
        if self._time is None:
            return None
        tokens = cost.bucket(share.tokens.longest, self._tokeniser.buckets)
        return self._time.looking_s(tokens, len(share.tokens)) + self._time.transfer_s(transferred_bytes)

    def _train(self, client: Client, task: Task, start: ModelState, number: int) -> Trained:
        share, training = self._corpus.clients[client.number], self._training
        work = Work(
            task.trained,
            share.tokens,
            self._tokeniser,
            training,
            self._run.seed,
            (client.name, number),
            prefix=SharedStates(self._prefix, share.places),
            rates=_rates(training, task),
            adjust=task.adjust,
            prior=log_prior(share.tokens.labels, self.setup.layout.classes, training.calibration),
        )
        blocks = self.setup.layout.blocks
        footing = Footing(training.batch_size, self._lowest, kept_blocks=blocks)
        return trainer.train(self._engine, start, work, footing, None, lambda *_: None)

    def _encode(self, device: _Device, task: Task, start: ModelState, trained: Trained, number: int) -> bytes:
        """The object that the client sends, by the product's quantisation with error feedback."""
        layout, parts = self.setup.layout, task.parts
        view = view_of(layout, parts)
        budget = self._method.budget_ranks(self.setup, self._model, number)
        part = update.Part(
            round=number,
            trained=task.trained,
            budget_ranks=budget or int(self._model.fleet.state.mask.sum()),
            examples=device.client.examples,
            scheme=find_scheme(self._training.quantisation),
        )
        before = replace(start, layout=view, rows=project(layout, start.rows, parts))
        after = project(layout, trained.rows, parts)
        residual = project(layout, device.residual, parts)
        made, left = update.make_update(part, before, after, trained.scores, residual)
        device.residual = merge(layout, device.residual, left, parts)
        return codec.encode_update(made, view)

    def _drift(self, given: list[_Contribution]) -> float | None:
        after = []
        for one in given:
            rows = self.setup.layout.empty_rows()
            for module, slots in self.setup.layout.living(one.start.mask):
                rows[module.name][slots] = one.trained.rows[module.name]
            after.append((rows, float(one.upload.update.examples)))
        return client_drift(self.setup.layout, given[0].start.rows, after)

    def _shared_states(self, cache: Path) -> FrozenPrefix:
        layout = self.setup.layout
        nothing = compact(layout, layout.empty_rows(), np.zeros_like(self.setup.alive))
        key = key_of(b"torch float32", 0.0, layout, nothing, self._lowest, self._corpus.everything)
        lengths = [len(ids) for ids in self._corpus.everything.ids]
        kept = PrefixCache(states_folder(cache, self._run), key, lengths, layout.d_model, STATES_LIMIT_BYTES)
        return FrozenPrefix(self._engine, nothing, self._lowest, EVALUATION_BATCH, kept)


def _device_time(run: Run, manifest: Manifest, layout: Layout, training: m.Training) -> DeviceTime | None:
    profile = run.profile
    if profile.device is None:
        return None
    return DeviceTime(profile.device, profile.link_bytes_per_s, cost.model_of(manifest), layout, training)


def _slowest(times_s: list[float | None]) -> float | None:
    """The time of the device that the others wait for."""
    known = [one for one in times_s if one is not None]
    return max(known, default=None)


def _rates(training: m.Training, task: Task) -> Rates:
    """The learning rates, zero for what does not learn."""
    rates, parts = rates_of(training), task.parts
    return replace(rates, a=rates.a * parts.a, e=rates.e * parts.e, b=rates.b * parts.b, head=rates.head * task.head)
