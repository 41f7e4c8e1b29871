"""What happens at the clients of a run: training, looking at their data, and the time that it would take a device.

All clients share one frozen model, and one set of states that its lowest blocks make of all texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from edge_agent import trainer
from edge_agent.calibration import log_prior
from edge_agent.class_statistics import class_statistics
from edge_agent.optimizer import Rates
from edge_agent.prefix import FrozenPrefix, PrefixCache, key_of
from edge_agent.reading import Reading
from edge_agent.tokenise import Tokeniser
from edge_agent.trainer import Trained, Work, evaluate, rates_of, trainable
from edge_agent.watch import Footing
from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.pack import TOKENIZER, load_manifest, module_layout
from edge_agent.wire.ranks import Mask, Rows, compact
from edge_agent.wire.state import ModelState

from .data import Share, SharedStates, load_corpus, states_folder
from .device_time import DeviceTime
from .drift import products
from .engine import ExperimentEngine
from .method import Client, Task
from .settings import Run

EVALUATION_BATCH = 32
STATES_LIMIT_BYTES = 2**40
"""Experiments run where there is a disk."""


class Clients:
    """The clients of `run`; `all` are in the order of the split, and `alive` are the ranks that there are at first.

    Raises:
        RankfleetError: the pack or the data cannot be used.
    """

    def __init__(self, run: Run, pack: Path, dataset: str, cache: Path) -> None:
        manifest = load_manifest(pack)
        options, profile = run.options, run.profile
        self._seed = run.seed
        self._training = m.Training(**msgspec.structs.asdict(options.training))
        self._tokeniser = Tokeniser(pack / TOKENIZER, manifest.pad_token_id, options.training.max_tokens)
        self._corpus = load_corpus(dataset, run, self._tokeniser)
        self.layout = module_layout(manifest, options.ranks.initial, len(self._corpus.classes))
        self.engine = ExperimentEngine(pack, self.layout, scale=options.training.scale)
        self._lowest = self.layout.blocks - min(profile.depth, self.layout.blocks)
        self.alive = trainable(self.layout, self.layout.full_mask(), self._lowest)
        self._cache, self._run = cache, run
        self._prefix = self._shared_states(self._lowest)
        sizes = [len(share.tokens) for share in self._corpus.clients]
        shares = profile.rank_shares
        self.all = tuple(Client(place, size, shares[place % len(shares)]) for place, size in enumerate(sizes))
        self._time = None
        if profile.device is not None:
            model = cost.model_of(manifest)
            self._time = DeviceTime(profile.device, profile.link_bytes_per_s, model, self.layout, self._training)

    def train(self, client: Client, task: Task, start: ModelState, number: int) -> Trained:
        """The client's training in round `number`, by the product's trainer."""
        share = self._corpus.clients[client.number]
        rule = task.importance or self._training.importance
        training = msgspec.structs.replace(self._training, importance=rule)
        work = Work(
            task.trained,
            share.tokens,
            self._tokeniser,
            training,
            self._seed,
            (client.name, number),
            prefix=SharedStates(self._prefix, share.places),
            rates=_rates(training, task),
            adjust=task.adjust,
            prior=log_prior(share.tokens.labels, self.layout.classes, training.calibration),
        )
        footing = Footing(training.batch_size, self._lowest, kept_blocks=self.layout.blocks)
        return trainer.train(self.engine, start, work, footing, None, lambda *_: None)

    def class_statistics(self, client: Client, state: ModelState, *, axes: bool) -> Rows:
        """Statistics of the client's classes. States of the pretrained model are looked up where they are known."""
        share = self._corpus.clients[client.number]
        prefix = self._prefix if products(self.layout, state.rows) else self._pretrained
        return class_statistics(self.engine, state, self._reading(share, prefix), axes=axes)

    def accuracy(self, state: ModelState) -> float:
        """Of `state` on the test sample."""
        score = evaluate(self.engine, state, self._reading(self._corpus.test, self._prefix))
        return score.correct / score.total

    def training_s(self, client: Client, masks: Sequence[Mask], transferred_bytes: int) -> float | None:
        """Modelled time of a client's round, in which it trains the ranks of every mask in turn; None where the
        profile has no device."""
        if self._time is None:
            return None
        steps = self._training.local_steps or math.ceil(client.examples / self._training.batch_size)
        training_s = sum(self._time.training_s(mask, self._tokens(client), steps) for mask in masks)
        return training_s + self._time.transfer_s(transferred_bytes)

    def looking_s(self, client: Client, transferred_bytes: int) -> float | None:
        """Modelled time of a client's round in which it only looks at its data."""
        if self._time is None:
            return None
        looking_s = self._time.looking_s(self._tokens(client), client.examples)
        return looking_s + self._time.transfer_s(transferred_bytes)

    def _tokens(self, client: Client) -> int:
        return cost.bucket(self._corpus.clients[client.number].tokens.longest, self._tokeniser.buckets)

    def _reading(self, share: Share, prefix: FrozenPrefix) -> Reading:
        states = SharedStates(prefix, share.places)
        return Reading(share.tokens, self._tokeniser, EVALUATION_BATCH, EVALUATION_BATCH, states)

    @cached_property
    def _pretrained(self) -> FrozenPrefix:
        """Behind the last block; only a start from statistics of classes asks for them."""
        return self._shared_states(self.layout.blocks)

    def _shared_states(self, block: int) -> FrozenPrefix:
        """The states of all texts before `block` without any rank: the scale of ranks does not matter to them."""
        layout = self.layout
        nothing = compact(layout, layout.empty_rows(), np.zeros_like(self.alive))
        key = key_of(b"torch float32", 0.0, layout, nothing, block, self._corpus.everything)
        lengths = [len(ids) for ids in self._corpus.everything.ids]
        folder = states_folder(self._cache, self._run, block)
        kept = PrefixCache(folder, key, lengths, layout.d_model, STATES_LIMIT_BYTES)
        return FrozenPrefix(self.engine, nothing, block, EVALUATION_BATCH, kept)


def _rates(training: m.Training, task: Task) -> Rates:
    """The learning rates, zero for what does not learn."""
    rates, parts = rates_of(training), task.parts
    return replace(rates, a=rates.a * parts.a, e=rates.e * parts.e, b=rates.b * parts.b, head=rates.head * task.head)
