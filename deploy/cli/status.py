"""`rankfleet status`: where a run or an agent stands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.progress import megabytes

if TYPE_CHECKING:
    from coordinator.events import Objective, RoundRecord
    from deploy.status import AgentStatus, DeviceStatus, FleetStatus

_ABOUT = """\
Tells where a run stands (its round, the ranks alive, accuracy by round, the devices), or an agent (its model, what
waits to be sent, its traffic). Only reads, so it can be asked at any time. The accuracy of a round is that of the model
it started from, over the hold-outs of the devices that trained in it.
"""

_ROUND_HEADER = "round  accuracy before    loss  ranks  modules  devices        up  down, each      time"
_DEVICE_HEADER = "device            online  examples     budget  version  note"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("status", help="tell where a run or an agent stands", description=_ABOUT)
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN", help="folder of a demo, a coordinator's run_dir, or an agent's state_dir"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the status.

    Raises:
        ConfigError: the folder is neither a run's nor an agent's.
        StoreError: its database cannot be read.
    """
    from deploy import status  # noqa: PLC0415 (a help text needs none of it)
    from deploy.folders import is_agent, is_run, neither  # noqa: PLC0415

    found: msgspec.Struct
    if is_run(args.run_dir):
        found = fleet = status.fleet_status(args.run_dir)
        lines = _fleet_lines(fleet)
    elif is_agent(args.run_dir):
        found = agent = status.agent_status(args.run_dir)
        lines = _agent_lines(agent)
    else:
        raise neither(args.run_dir)
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() if args.json else "\n".join(lines))
    return 0


def _fleet_lines(status: FleetStatus) -> list[str]:
    """The status of a run for a person."""
    alive = "all ranks alive" if status.ranks_alive is None else f"{status.ranks_alive} ranks alive"
    lines = [f"fleet {status.fleet}: {_progress(status)}, {alive}"]
    if status.records:
        lines += ["", _ROUND_HEADER, *map(_round_line, status.records)]
    if status.devices:
        lines += ["", _DEVICE_HEADER, *map(_device_line, status.devices)]
    missed = [one for one in {change.name: change for change in status.objectives}.values() if not one.met]
    if missed:
        lines += ["", *map(_missed_line, missed)]
    return lines


def _agent_lines(status: AgentStatus) -> list[str]:
    """The status of an agent for a person."""
    if status.fleet is None:
        return [f"no fleet joined yet, boot {status.boots}"]
    outbox = "empty"
    if status.outbox_round is not None:
        outbox = (
            f"update of round {status.outbox_round}, {megabytes(status.outbox_bytes)}, not yet with the coordinator"
        )
    budget = "not measured yet" if status.budget_bytes is None else megabytes(status.budget_bytes)
    return [
        f"fleet {status.fleet}: {status.classes} classes, boot {status.boots}",
        f"  model    {status.model or 'not fetched yet'}, state of version {status.version}",
        f"  budget   {budget}",
        f"  outbox   {outbox}",
        f"  traffic  sent {megabytes(status.bytes_up)}, received {megabytes(status.bytes_down)}, "
        f"and {megabytes(status.pack_bytes_down)} for the pack",
    ]


def _progress(status: FleetStatus) -> str:
    if status.open_round is None:
        over = " (the last)" if status.closed == status.rounds else ""
        return f"{status.closed} of {status.rounds} rounds closed{over}"
    pending = f", waiting for {', '.join(status.pending)}" if status.pending else ""
    return (
        f"round {status.open_round} of {status.rounds} is open, {len(status.answered)} of "
        f"{len(status.answered) + len(status.pending)} updates are in{pending}"
    )


def _round_line(record: RoundRecord) -> str:
    accuracy = "-" if record.accuracy is None else f"{record.accuracy:.3f}"
    loss = "-" if record.loss is None else f"{record.loss:.3f}"
    return (
        f"{record.round:>5}  {accuracy:>15}  {loss:>6}  {record.ranks_alive:>5}  {record.modules_alive:>7}  "
        f"{len(record.contributors):>7}  {megabytes(record.updates_bytes):>8}  {megabytes(record.delta_bytes):>10}  "
        f"{record.wall_s:>6.1f} s"
    )


def _missed_line(change: Objective) -> str:
    return f"objective {change.name} missed since {change.date}: {change.value:g}, asked for {change.bound:g}"


def _device_line(device: DeviceStatus) -> str:
    budget = "-" if device.budget_bytes is None else megabytes(device.budget_bytes)
    examples = "-" if device.examples is None else str(device.examples)
    version = "-" if device.version is None else str(device.version)
    online = "yes" if device.online else "no"
    return f"{device.name:<16}  {online:<6}  {examples:>8}  {budget:>9}  {version:>7}  {device.note}".rstrip()
