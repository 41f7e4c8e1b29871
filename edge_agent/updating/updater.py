"""One run of the updater: what an earlier one left is brought to its end, then the gateway is asked, and obeyed."""

from __future__ import annotations

import json
import logging
import platform
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.releases.idle import between_rounds
from edge_agent.updating import download
from edge_agent.updating.gateway import Gateway, RefusedError
from edge_agent.updating.packs import Packs
from edge_agent.updating.releases import Releases
from edge_agent.updating.spool import Spool
from edge_agent.wire.errors import EnrolmentError, FetchError, RankfleetError
from edge_agent.wire.updates import (
    MOST_REASON_CHARACTERS,
    Facts,
    ReleaseOrder,
    Reported,
    UpdateReport,
    parse_version,
)

LOGGER = logging.getLogger("rankfleet.update")
IDLE_S = 3600.0
"""How long the end of a round is waited for; then the next run tries again."""
_MOST_MANIFEST_BYTES = 2**20


@dataclass(frozen=True)
class Result:
    """How a run went, for the journal: `nothing` to do, `postponed` to the next run, or what was reported."""

    kind: Literal["nothing", "postponed", "installed", "returned", "failed", "unfit"]
    text: str


class _PostponedError(RankfleetError):
    """The agent is in a round."""


@dataclass(frozen=True)
class Updater:
    """All that one run needs; `renew` gets the device a new certificate."""

    spool: Spool
    gateway: Gateway
    releases: Releases
    packs: Packs
    renew: Callable[[], None]
    idle_s: float = IDLE_S

    def run(self) -> Result:
        """Follows at most one order.

        Raises:
            EnrolmentError: the gateway cannot be asked, or its bundle is not here yet: the next run goes on.
            RankfleetError: what an interrupted change left cannot be brought to an end, or the disk cannot be used.
        """
        self._settle()
        self._deliver()
        orders = self.gateway.orders(self._facts())
        if orders.renew:
            self._renew()
        order = orders.release
        download.drop(self.spool.folder, None if order is None else order.sha256)
        if order is None:
            return Result("nothing", f"release {self.releases.version()} is to stay")
        self.spool.begin(order)
        try:
            outcome, reason = self._follow(order)
        except _PostponedError as error:
            return Result("postponed", str(error))
        self._finish(order, outcome, reason)
        self._deliver()
        return Result(outcome, f"{order.kind} {order.version}: {outcome}" + (f" ({reason})" if reason else ""))

    def _renew(self) -> None:
        """The old certificate is good still, and the release may be what a failing renewal needs."""
        try:
            self.renew()
        except RankfleetError as error:
            LOGGER.warning("the certificate was not renewed: %s", error)

    def _settle(self) -> None:
        """What the releases say of an order that a killed run followed.

        A change that was interrupted before its switch says nothing of the release: the order comes again. Nor does a
        pack's: to try it again changes nothing if it is there.
        """
        order = self.spool.order()
        told = order if order is not None and order.kind == "agent" else None
        switched = told is not None and self._follows(told)
        change = self.releases.recover()
        if told is None or not switched:
            return
        if self._follows(told):
            self._finish(told, "returned" if told.returns else "installed", "")
        elif change is not None:
            self._finish(told, "failed" if told.returns else "returned", change.reason)

    def _follows(self, order: ReleaseOrder) -> bool:
        """Whether the current release is one that an order for the agent asks for."""
        return (self.releases.version() == order.version) != order.returns

    def _finish(self, order: ReleaseOrder, outcome: Reported, reason: str) -> None:
        facts = self._facts()
        said = reason[:MOST_REASON_CHARACTERS]
        report = UpdateReport(facts.version, facts.machine, facts.python, order.name, order.rollout, outcome, said)
        self.spool.finish(report)
        download.drop(self.spool.folder)

    def _deliver(self) -> None:
        report = self.spool.report()
        if report is None:
            return
        try:
            self.gateway.report(report)
        except RefusedError as error:
            LOGGER.warning("the gateway does not want the report on %s: %s", report.release, error)
        self.spool.delivered()

    def _facts(self) -> Facts:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return Facts(self.releases.version(), platform.machine(), python)

    def _follow(self, order: ReleaseOrder) -> tuple[Reported, str]:
        """How the order ended, and why. The gateway or a disk that fails is another matter than a bad release."""
        follow = {
            ("agent", False): self._install_agent,
            ("agent", True): self._return_agent,
            ("pack", False): self._install_pack,
            ("pack", True): self._return_pack,
        }[order.kind, order.returns]
        try:
            return follow(order)
        except (_PostponedError, EnrolmentError):
            raise
        except (RankfleetError, OSError) as error:
            LOGGER.warning("%s: %s", order.name, error)
            return "failed", str(error)

    def _install_agent(self, order: ReleaseOrder) -> tuple[Reported, str]:
        if self.releases.fixed:
            return "unfit", self.releases.fixed
        version = self.releases.version()
        if parse_version(order.version) <= parse_version(version):
            return "failed", f"refused: {order.version} is not newer than {version}, which runs"
        bundle = download.download(self.gateway.bundle, order, self.spool.folder)
        _check_manifest(bundle, order)
        with between_rounds(self.packs.state_dir, self.idle_s) as idle:
            _require(idle, self.idle_s)
        try:
            change = self.releases.install(bundle)
        except RankfleetError:
            self._require_idle()
            raise
        return change.kind, change.reason

    def _return_agent(self, order: ReleaseOrder) -> tuple[Reported, str]:
        if self.releases.version() != order.version:
            return "returned", f"it runs {self.releases.version()}"
        try:
            change = self.releases.go_back()
        except RankfleetError:
            self._require_idle()
            raise
        return ("returned", "") if change.kind == "installed" else ("failed", change.reason)

    def _require_idle(self) -> None:
        """A change that failed while the agent is in a round has waited for its end in vain."""
        with between_rounds(self.packs.state_dir, 0) as idle:
            _require(idle, self.idle_s)

    def _install_pack(self, order: ReleaseOrder) -> tuple[Reported, str]:
        bundle = download.download(self.gateway.bundle, order, self.spool.folder)
        with between_rounds(self.packs.state_dir, self.idle_s) as idle:
            _require(idle, self.idle_s)
            self.packs.install(bundle, order.version)
        return "installed", ""

    def _return_pack(self, order: ReleaseOrder) -> tuple[Reported, str]:
        """The agent looks for its pack when it starts: one that it still needs is fetched again."""
        with between_rounds(self.packs.state_dir, self.idle_s) as idle:
            _require(idle, self.idle_s)
            with self.releases.agent_stopped():
                self.packs.remove(order.version)
        return "returned", ""


def _require(idle: bool, limit_s: float) -> None:
    if not idle:
        raise _PostponedError(f"the agent is in a round still after {limit_s:g} s: the next run tries again")


def _check_manifest(bundle: Path, order: ReleaseOrder) -> None:
    """A bundle is of the version that was ordered, or the refusal of older ones would be worth nothing.

    Raises:
        FetchError: it is of another one, or no bundle.
    """
    try:
        with tarfile.open(bundle, "r:") as tar:
            head = tar.next()
            file = tar.extractfile(head) if head is not None and head.size <= _MOST_MANIFEST_BYTES else None
            version = json.loads(file.read())["version"] if file is not None else None
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FetchError(f"{order.name} is no bundle of an agent ({error}): make it anew") from error
    if version != order.version:
        raise FetchError(f"{order.name} should hold version {order.version}, holds {version}: make it anew")
