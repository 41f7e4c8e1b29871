"""`/metrics`: the fleet for Prometheus. Names and units by its conventions; docs/metrics.md lists them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from importlib.metadata import version

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from coordinator.web import state
from coordinator.web.parts import PageParts
from edge_agent.wire.errors import EnrolmentError
from edge_agent.wire.exposition import CONTENT_TYPE, Family, text

_SCHEME = "bearer "
_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip")
_DEVICE_GAUGES = (
    ("online", "rankfleet_device_online", "Whether the device is connected (1) or not (0)."),
    ("late", "rankfleet_device_late", "Whether the open round waits for the device for longer than for others."),
    ("examples", "rankfleet_device_examples", "Local examples that the device trains on."),
    ("budget_bytes", "rankfleet_device_budget_bytes", "Memory that the device may use."),
    ("memory_bytes", "rankfleet_device_memory_bytes", "Memory of the whole board."),
    ("peak_bytes", "rankfleet_device_peak_anonymous_bytes", "Peak anonymous memory in its last round."),
    ("temperature_c", "rankfleet_device_temperature_celsius", "Of the board, when it last reported progress."),
    ("ranks", "rankfleet_device_ranks", "Ranks that the device trains in the open round, or did in its last one."),
    ("version", "rankfleet_device_model_version", "Version of the model that the device reported last."),
)


class MetricsRoute:
    """For those who show an admin token as a bearer, and for programs on this machine."""

    def __init__(self, parts: PageParts) -> None:
        self._parts = parts

    async def show(self, request: Request) -> Response:
        """The text."""
        await self._check(request)
        snapshot = await self._parts.feed.look()
        return Response(text(families(snapshot)), media_type=CONTENT_TYPE)

    async def _check(self, request: Request) -> None:
        shown = request.headers.get("authorization", "")
        if shown.lower().startswith(_SCHEME):
            allowed = await run_in_threadpool(self._parts.is_admin, shown[len(_SCHEME) :].strip())
        else:
            allowed = _is_local(request)
        if not allowed:
            raise EnrolmentError("metrics are for this machine, or for Authorization: Bearer TOKEN", 401)


def families(snapshot: state.Snapshot) -> Iterator[Family]:
    """Every metric of the fleet; what is not known has no sample."""
    yield Family("rankfleet_info", "gauge", "The fleet and the version that serves it.").add(
        1, fleet=snapshot.fleet, version=version("rankfleet")
    )
    yield from _run(snapshot)
    yield from _model(snapshot)
    yield from _devices(snapshot.devices)
    met = Family("rankfleet_objective_met", "gauge", "Whether a service level is met (1) or missed (0).")
    for level in snapshot.levels:
        met.add(level.met, objective=level.name)
    yield met
    yield Family("rankfleet_enrolment_requests_pending", "gauge", "Boards that ask to be let in.").add(
        len(snapshot.requests)
    )


def _run(snapshot: state.Snapshot) -> Iterator[Family]:
    run, late = snapshot.run, sum(row.late for row in snapshot.devices.values())
    open_now = run.open_round is not None
    running = run.service == "running"
    yield Family("rankfleet_rounds_running", "gauge", "Whether the coordinator's process runs.").add(running)
    yield Family("rankfleet_rounds_paused", "gauge", "Whether no further round opens.").add(run.paused)
    yield Family("rankfleet_rounds_planned", "gauge", "Rounds of the run.").add(run.rounds)
    yield Family("rankfleet_rounds_closed_total", "counter", "Rounds that are closed.").add(run.closed)
    yield Family("rankfleet_round_open", "gauge", "Whether a round is open.").add(open_now)
    if open_now:
        opened = Family("rankfleet_round_opened_timestamp_seconds", "gauge", "When the open round began.")
        yield opened.add(run.opened_s)
        yield Family("rankfleet_round_devices", "gauge", "Devices of the open round.").add(run.cohort)
        yield Family("rankfleet_round_answered_devices", "gauge", "Those whose update is here.").add(run.answered)
        yield Family("rankfleet_round_late_devices", "gauge", "Those that are late.").add(late)


def _model(snapshot: state.Snapshot) -> Iterator[Family]:
    rounds = list(snapshot.rounds.values())
    up = Family("rankfleet_updates_received_bytes_total", "counter", "Encoded updates of all closed rounds.")
    yield up.add(sum(one.updates_bytes for one in rounds))
    if not rounds:
        return
    last = rounds[-1]
    measured = [one.accuracy for one in rounds if one.accuracy is not None]
    trained = [one.loss for one in rounds if one.loss is not None]
    accuracy = Family("rankfleet_accuracy_ratio", "gauge", "On the hold-outs, of the model that a round started from.")
    yield accuracy.add(measured[-1] if measured else None)
    yield Family("rankfleet_loss", "gauge", "Mean training loss of the last round that trained.").add(
        trained[-1] if trained else None
    )
    yield Family("rankfleet_ranks_alive", "gauge", "Ranks that live after the last round.").add(last.ranks_alive)
    yield Family("rankfleet_round_delta_bytes", "gauge", "The delta that each device fetches.").add(last.delta_bytes)
    yield Family("rankfleet_round_duration_seconds", "gauge", "How long the last round took.").add(last.wall_s)


def _devices(devices: dict[str, state.DeviceRow]) -> Iterator[Family]:
    yield Family("rankfleet_devices", "gauge", "Devices that the coordinator knows.").add(len(devices))
    online = sum(row.online for row in devices.values())
    yield Family("rankfleet_devices_online", "gauge", "Those that are connected.").add(online)
    for column, name, about in _DEVICE_GAUGES:
        family = Family(name, "gauge", about)
        for device, row in devices.items():
            family.add(getattr(row, column), device=device)
        yield family


def _is_local(request: Request) -> bool:
    """On loopback, and not handed on by a proxy, behind which everybody is."""
    if request.client is None or any(name in request.headers for name in _PROXIED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
