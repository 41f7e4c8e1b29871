"""What an agent finds in its database when it starts.

What is damaged is dropped, and said: a figure is measured or counted anew, an unsent update trained again, the model
fetched. Nothing is offered that is not what was trained.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from edge_agent import session
from edge_agent.config import AgentConfig
from edge_agent.meter import Account
from edge_agent.store import Outgoing, Store
from edge_agent.wire import logs
from edge_agent.wire import messages as m
from edge_agent.wire.container import Kind, check_whole
from edge_agent.wire.errors import PayloadError, StoreError
from edge_agent.wire.lean import own_version

LOGGER = logging.getLogger("rankfleet.agent")


def initial(store: Store) -> session.State:
    """The session of an agent that starts.

    Raises:
        StoreError: the database cannot be read or written.
    """
    welcome = _terms(store)
    _check_model(store)
    return session.State(
        agent_version=own_version(),
        pack=None,
        version=store.version(),
        welcome=welcome,
        offer=_waiting(store),
    )


def make_offer(store: Store, outgoing: Outgoing, phases: tuple[m.Phase, ...], account: Account) -> m.Offer:
    """The offer of an update, its report completed by what only the supervisor knows.

    Raises:
        StoreError: the update or its report is damaged.
    """
    report = store.report_of(outgoing)
    report = msgspec.structs.replace(
        report,
        bytes_up=account.bytes_up,
        bytes_down=account.bytes_down,
        pack_bytes_down=account.pack_bytes_down,
        phases=phases + report.phases,
    )
    return m.Offer(outgoing.round, m.ObjectRef("update", outgoing.sha256, len(outgoing.body)), report)


def account_of(store: Store) -> Account:
    """The traffic that was counted so far."""
    return store.value_or("account", Account(), Account, "traffic is counted from zero again")


def _terms(store: Store) -> m.Welcome | None:
    """The terms that the rest belongs to: without them it may be of any run."""
    try:
        return store.value("welcome", m.Welcome, "the agent joins its fleet anew, and fetches its model")
    except StoreError as error:
        LOGGER.warning("%s", error)
        store.forget_fleet()
        return None


def _check_model(store: Store) -> None:
    model = store.model()
    if model is None:
        return
    try:
        check_whole(Kind.SNAPSHOT, model.state)
    except PayloadError as error:
        LOGGER.warning("%s", store.damaged("the model state", str(error), "the model is fetched again"))
        store.forget_model()


def _waiting(store: Store) -> m.Offer | None:
    outgoing = store.outgoing()
    if outgoing is None:
        return None
    try:
        return make_offer(store, outgoing, (), account_of(store))
    except StoreError as error:
        LOGGER.warning("%s", error)
        store.discard(outgoing.round)
        return None


def tell_the_log(settings: AgentConfig, state: Callable[[], session.State]) -> None:
    """Has every event of the log say what it is about; `state` gives the session's."""

    def run() -> str | None:
        welcome = state().welcome
        return None if welcome is None else welcome.run.hex()

    def number() -> int | None:
        work = state().work
        return work.round if isinstance(work, m.Plan) else None

    logs.concern(fleet=settings.fleet, device=settings.device, run=run, round=number)
