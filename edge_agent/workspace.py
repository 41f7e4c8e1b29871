"""What every job needs before it can start: the pack, the layout, the model state, the local examples."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

import numpy as np

from edge_agent.data import Exceptions, split_again
from edge_agent.engine.choice import Choice, make_engine
from edge_agent.engine.protocol import Engine
from edge_agent.examples import SPLIT_SEED, Tokens, read_local, tokenise
from edge_agent.jetson import is_jetson
from edge_agent.jobs import Terms
from edge_agent.prefix import FrozenPrefix, PrefixCache, key_of, pays
from edge_agent.store import Model, Store
from edge_agent.tokenise import Tokeniser
from edge_agent.wire import codec
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.container import Kind, kind_of
from edge_agent.wire.errors import PayloadError, StoreError
from edge_agent.wire.pack import TOKENIZER, Manifest, load_manifest, module_layout
from edge_agent.wire.ranks import Layout, Rows, compact
from edge_agent.wire.state import ModelState

LOGGER = logging.getLogger("rankfleet.trainer")
PREFIX = "prefix"
"""Folder of the frozen prefix, beside the agent's database."""
SPLIT = "split"
"""Key of the exceptions that the split into training and hold-out has made."""


class LocalModel:
    """The model as one agent holds it: its pack, its state, its engine, each made when first asked for.

    Raises as those parts do.
    """

    def __init__(self, store: Store, welcome: m.Welcome, pack_dir: Path, choice: Choice) -> None:
        self.store = store
        self.welcome = welcome
        self.pack_dir = pack_dir
        self._choice = choice

    @cached_property
    def manifest(self) -> Manifest:
        """The pack's manifest."""
        return load_manifest(self.pack_dir)

    @cached_property
    def layout(self) -> Layout:
        """The tables of the fleet."""
        return module_layout(self.manifest, self.welcome.slots, len(self.welcome.classes))

    @cached_property
    def engine(self) -> Engine:
        """The chosen engine, for the pack."""
        return make_engine(self._choice, self.pack_dir, self.layout, self.welcome.training.scale)

    @property
    def max_tokens(self) -> int:
        """Longest sequence of this fleet and this model."""
        return min(self.welcome.training.max_tokens, self.manifest.max_tokens)

    def tokeniser(self, max_tokens: int) -> Tokeniser:
        """The pack's tokenizer, cutting at `max_tokens`."""
        return Tokeniser(self.pack_dir / TOKENIZER, self.manifest.pad_token_id, max_tokens)

    def state(self, deltas: tuple[str, ...] = ()) -> ModelState:
        """The model state on disk (or the seed state), brought forward by the objects in the files `deltas`.

        Raises:
            PayloadError: an object does not fit the state.
            StoreError: an object cannot be read.
        """
        model = self.store.model()
        seed = self.welcome.seed
        state = states.seed_state(self.layout, seed) if model is None else states.from_bytes(model.state, self.layout)
        for path in deltas:
            state = _advance(state, _read(path))
        return state


class Workspace(LocalModel):
    """What every job needs: the local model, the local examples, and what a round leaves behind."""

    def __init__(self, terms: Terms) -> None:
        limit_bytes = terms.budget_bytes - terms.supervisor_bytes if is_jetson() else None
        choice = Choice(terms.threads, terms.engine, terms.torch_device, terms.products, limit_bytes)
        super().__init__(Store(Path(terms.store)), terms.welcome, Path(terms.pack_dir), choice)
        self.terms = terms

    def examples(self, max_tokens: int) -> tuple[Tokens, Tokens]:
        """Training and hold-out examples as the data are now, cut at `max_tokens`; what was held out stays so.

        Raises:
            DataError: names the file and the line, or the entry point and the row.
        """
        terms, classes = self.terms, self.welcome.classes
        folder = None if terms.data_path is None else Path(terms.data_path)
        examples = read_local(Path(terms.data), classes, folder)
        known = self.store.value_or(SPLIT, Exceptions(), Exceptions, "the split follows from the texts alone again")
        parts = split_again(examples, share=terms.holdout_share, seed=SPLIT_SEED, known=known)
        if parts.exceptions != known:
            self.store.keep(**{SPLIT: parts.exceptions})
        tokeniser = self.tokeniser(max_tokens)
        return tokenise(parts.train, tokeniser, classes), tokenise(parts.holdout, tokeniser, classes)

    def prefix(self, state: ModelState, tokens: Tokens, lowest_block: int, micro_batch: int) -> FrozenPrefix | None:
        """What lies below the lowest block that a round has to pass on its way back; None where keeping it is not
        allowed or does not pay."""
        layout, training, examples = self.layout, self.welcome.training, len(tokens)
        living = [module.block for module, slots in layout.living(state.mask) if len(slots)]
        block = min((one for one in living if one >= lowest_block), default=layout.blocks)
        below = rows_below(state, block)
        seen = training.local_steps * training.batch_size or examples
        if not self.terms.prefix_limit_bytes or not pays(layout, below, block, examples=examples, seen=seen):
            return None
        computed_by = self.welcome.pack.sha256 + f"{self.terms.engine} {self.terms.products}".encode()
        key = key_of(computed_by, training.scale, layout, below, block, tokens)
        lengths = [len(ids) for ids in tokens.ids]
        folder = Path(self.terms.store).parent / PREFIX
        cache = PrefixCache(folder, key, lengths, layout.d_model, self.terms.prefix_limit_bytes)
        return FrozenPrefix(self.engine, below, block, micro_batch, cache)

    def residual(self) -> Rows:
        """What quantisation lost so far; where that is damaged it is forgotten, and training goes on without it."""
        model = self.store.model()
        if model is None or not model.residual:
            return self.layout.empty_rows()
        try:
            return states.from_bytes(model.residual, self.layout).rows
        except PayloadError as error:
            LOGGER.warning("what quantisation lost so far is damaged, and forgotten: %s", error)
            return self.layout.empty_rows()

    def model(self, state: ModelState, residual: Rows) -> Model:
        """`state` and `residual` as the store keeps them."""
        lost = ModelState(state.layout, state.version, state.mask, residual)
        return Model(state.version, states.to_bytes(state), states.to_bytes(lost))


def rows_below(state: ModelState, block: int) -> Rows:
    """The living rows of the blocks below `block`, and the head; none of the blocks above."""
    blocks = np.array([module.block for module in state.layout.modules])
    return compact(state.layout, state.rows, state.mask & (blocks < block)[:, None])


def check_digest(state: ModelState, version: int, expected: bytes) -> None:
    """The state must be the coordinator's, bit for bit.

    Raises:
        PayloadError: it is not; training from it would corrupt the fleet's model.
    """
    if state.version != version or states.digest(state) != expected:
        raise PayloadError(
            f"the model state at version {state.version} is not the coordinator's version {version}: "
            "delete the agent's state folder to start from the seed state"
        )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): it is fetched again with the next plan") from error


def _advance(state: ModelState, data: bytes) -> ModelState:
    """The state after one object; one that leads to a version already reached changes nothing."""
    if kind_of(data) is Kind.SNAPSHOT:
        snapshot = states.from_bytes(data, state.layout)
        return snapshot if snapshot.version > state.version else state
    delta = codec.decode_delta(data, state.layout)
    return codec.apply_delta(state, delta) if delta.version_to > state.version else state
