"""What a trainer process is told: the job for an action of the session, under the settings of the day."""

from __future__ import annotations

from typing import TypeVar

from edge_agent import capability, jobs, memory, session
from edge_agent import session_events as events
from edge_agent.config import AgentConfig
from edge_agent.fetching import Fetcher
from edge_agent.store import Store
from edge_agent.wire import messages as m

_MEASURED_AGAIN = "it is measured again"
T = TypeVar("T")


class JobOrders:
    """Jobs of an agent with this database and what is fetched to its disk."""

    def __init__(self, store: Store, fetcher: Fetcher) -> None:
        self._store = store
        self._fetcher = fetcher

    def job(
        self,
        action: events.Measure | events.Train | events.KeepFinal,
        settings: AgentConfig,
        budget_bytes: int,
        state: session.State,
    ) -> jobs.AnyJob:
        """The job for `action`, within `budget_bytes`.

        Raises:
            ConfigError: the configured file of capabilities cannot be used.
        """
        terms = self._terms(settings, budget_bytes, state)
        if isinstance(action, events.Measure):
            return jobs.MeasureJob(terms, self._link_bytes_per_s(), self._known_capability(settings, terms))
        measured = _set(state.ready).capability
        if isinstance(action, events.Train):
            return jobs.TrainJob(terms, action.plan, self._paths(action.plan.deltas), measured)
        return jobs.FinalJob(terms, action.final, self._paths(action.final.deltas), measured)

    def keep(self, measured: m.Capability, settings: AgentConfig, budget_bytes: int, state: session.State) -> None:
        """Keeps what was measured under these settings, so that it is not measured again under the same."""
        key = _capability_key(self._terms(settings, budget_bytes, state))
        self._store.keep(capability=measured, capability_of=key)

    def _terms(self, settings: AgentConfig, budget_bytes: int, state: session.State) -> jobs.Terms:
        welcome, own = _set(state.welcome), memory.own()
        return jobs.Terms(
            device=settings.device,
            welcome=welcome,
            pack_dir=str(self._fetcher.pack_dir(welcome.pack.sha256)),
            store=str(self._store.path),
            data=str(settings.data),
            data_path=None if settings.data_path is None else str(settings.data_path),
            holdout_share=settings.holdout_share,
            threads=settings.threads,
            budget_bytes=budget_bytes,
            supervisor_bytes=own.anonymous_bytes,
            supervisor_peak_rss_bytes=memory.high_water_bytes() or own.rss_bytes,
            engine=settings.engine,
            torch_device=settings.torch_device,
            products=settings.products,
            prefix_limit_bytes=settings.prefix.limit_bytes,
            checkpoint_s=settings.training.checkpoint_s,
            records=settings.recorder.enabled,
        )

    def _known_capability(self, settings: AgentConfig, terms: jobs.Terms) -> m.Capability | None:
        """A replayed capability, or the one measured before with the same pack, budget, threads and engine."""
        if settings.capability is not None:
            return capability.load(settings.capability, settings.device)
        if self._store.value_or("capability_of", None, str, _MEASURED_AGAIN) != _capability_key(terms):
            return None
        return self._store.value_or("capability", None, m.Capability, _MEASURED_AGAIN)

    def _link_bytes_per_s(self) -> int:
        """The best rate that a fetch of the pack ever had: most bytes come with the first, later ones are short."""
        known = self._store.value_or("link_bytes_per_s", 1, int, _MEASURED_AGAIN)
        best = max(known, self._fetcher.link_bytes_per_s or 1)
        self._store.keep(link_bytes_per_s=best)
        return best

    def _paths(self, refs: tuple[m.ObjectRef, ...]) -> tuple[str, ...]:
        return tuple(str(self._fetcher.object_path(ref.sha256)) for ref in refs)


def _capability_key(terms: jobs.Terms) -> str:
    engine = f"{terms.engine} {terms.products if terms.engine == 'onnx' else terms.torch_device}"
    shape = f"{terms.welcome.training.batch_size} {terms.welcome.training.max_tokens}"
    return f"{terms.pack_dir} {terms.budget_bytes} {terms.threads} {shape} {engine}"


def _set(value: T | None) -> T:
    if value is None:
        raise AssertionError("the session's phase implies that this is set")
    return value
