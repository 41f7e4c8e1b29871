"""One real round on this device, as its agent would train it: from the seed state, on the device's own data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_agent import config, jobs
from edge_agent.fetching import Fetcher
from edge_agent.predict import DATABASE
from edge_agent.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import Layout, Mask, pack_mask
from edge_agent.wire.state import digest, seed_state

POLL_S = 0.02
DEADLINE_S = 3600.0
LINK_BYTES_PER_S = 10**6  # no link is used; the capability needs one


class Joined(NamedTuple):
    """What the agent remembers of its fleet: the terms, and what it measured of itself, its resident part included."""

    welcome: m.Welcome
    known: m.Capability


def find_joined(settings: config.AgentConfig) -> Joined:
    """What the agent of these settings remembers.

    Raises:
        ConfigError: it has joined no fleet yet.
    """
    store = Store(settings.state_dir / DATABASE, read_only=True)
    try:
        welcome, known = store.value("welcome", m.Welcome), store.value("capability", m.Capability)
    finally:
        store.close()
    if welcome is None or known is None:
        raise ConfigError(f"the agent in {settings.state_dir} has joined no fleet and measured nothing: run it once")
    return Joined(welcome, known)


def make_terms(settings: config.AgentConfig, joined: Joined, budget_bytes: int, store: Path) -> jobs.Terms:
    """Terms of jobs that leave everything they make in the database `store`."""
    welcome, known = joined
    return jobs.Terms(
        device=settings.device,
        welcome=welcome,
        pack_dir=str(Fetcher(settings.state_dir).pack_dir(welcome.pack.sha256)),
        store=str(store),
        data=str(settings.data),
        data_path=None if settings.data_path is None else str(settings.data_path),
        holdout_share=settings.holdout_share,
        threads=settings.threads,
        budget_bytes=budget_bytes,
        supervisor_bytes=known.cost.supervisor_bytes,
        supervisor_peak_rss_bytes=0,
        prefix_limit_bytes=settings.prefix.limit_bytes,
        engine=settings.engine,
        torch_device=settings.torch_device,
        products=settings.products,
    )


def layout_of(terms: jobs.Terms) -> Layout:
    """Modules and ranks of the fleet's model."""
    return module_layout(load_manifest(Path(terms.pack_dir)), terms.welcome.slots, len(terms.welcome.classes))


def first_plan(terms: jobs.Terms, trained: Mask | None = None, lowest_block: int = 0) -> m.Plan:
    """A first round that trains those ranks, all of them by default, in blocks from `lowest_block` up."""
    layout = layout_of(terms)
    state = seed_state(layout, terms.welcome.seed)
    return m.Plan(
        round=1,
        rounds=1,
        version=0,
        deltas=(),
        state_sha256=digest(state),
        work="train",
        trained=pack_mask(state.mask if trained is None else trained),
        budget_ranks=layout.ranks,
        lowest_block=lowest_block,
        deadline_s=DEADLINE_S,
        late_rounds=0,
    )


def run_job(job: jobs.AnyJob, hear: Callable[[jobs.AnyLine | None], None] = lambda line: None) -> jobs.AnyLine:
    """Runs a job to its result; `hear` is told what it says on the way, and None now and then."""
    runner = jobs.Runner()
    runner.start(job)
    try:
        while True:
            line = runner.poll()
            if line is not None and not isinstance(line, (jobs.Step, jobs.Recorded)):
                return line
            hear(line)
            if line is None:
                time.sleep(POLL_S)
    finally:
        runner.stop()


def report_in(database: Path) -> m.RoundReport:
    """The report of the round whose update is in the database.

    Raises:
        StoreError: the database cannot be read.
    """
    store = Store(database)
    try:
        outgoing = store.outgoing()
        assert outgoing is not None
        return store.report_of(outgoing)
    finally:
        store.close()
