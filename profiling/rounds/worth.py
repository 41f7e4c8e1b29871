"""Whether it pays: a measured run at given prices, beside sending the raw data and training in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from profiling.rounds.figures import NONE
from profiling.rounds.load import Device, Run
from profiling.rounds.plots import accuracies_of
from profiling.rounds.prices import Prices
from profiling.rounds.summary import total_of, working
from profiling.table import Table

_GB, _J_PER_KWH, _S_PER_H, _H_PER_YEAR, _POINTS = 1e9, 3.6e6, 3600.0, 8766.0, 100


class Item(msgspec.Struct, frozen=True):
    """One kind of cost, of the whole run. None where it cannot be told."""

    name: str
    fleet: float | None
    central: float | None
    how: str
    """What it is made of."""


class Used(msgspec.Struct, frozen=True):
    """What a run took, as its devices recorded it; the pack's download is apart, for both ways need it."""

    devices: int
    rounds: int
    examples: int
    round_bytes: float | None
    pack_bytes: float | None
    work_s: float
    energy_j: float
    measured_energy: int
    """Devices that measured their energy; that of the others is their time at the given power."""
    first_accuracy: float | None
    last_accuracy: float | None

    @property
    def gained_points(self) -> float | None:
        """Percentage points of accuracy on the hold-outs, from the first measured round to the last."""
        if self.first_accuracy is None or self.last_accuracy is None:
            return None
        return (self.last_accuracy - self.first_accuracy) * _POINTS


class Worth(msgspec.Struct, frozen=True):
    """The result: what was used, what it costs, and what was taken for granted."""

    currency: str
    used: Used
    items: tuple[Item, ...]
    assumptions: tuple[str, ...]
    break_even_bytes: float | None
    """Bytes of a raw record at which both ways cost the same; None where no size does that."""
    pilot: tuple[str, ...]


def find_worth(run: Run, prices: Prices) -> Worth:
    """What the recorded rounds of `run` cost at `prices`."""
    used = find_used(run, prices)
    items = tuple(_items(used, prices))
    return Worth(
        currency=prices.currency,
        used=used,
        items=items,
        assumptions=tuple(_assumptions(used, prices)),
        break_even_bytes=_break_even_bytes(used, prices, items),
        pilot=tuple(_pilot(used, items)),
    )


def find_used(run: Run, prices: Prices) -> Used:
    """What the run took. Waiting between rounds costs no board its time: other work may be done in it."""
    numbers = {number for device in run.devices for number in device.rounds}
    energies = [_energy_j(device) for device in run.devices]
    times = [_work_s(device) for device in run.devices]
    accuracies = accuracies_of(run)
    known = [accuracies[number] for number in sorted(accuracies)]
    return Used(
        devices=len(run.devices),
        rounds=len(numbers),
        examples=sum(_examples(device) for device in run.devices),
        round_bytes=_bytes(run.devices, "fetch", apart=True),
        pack_bytes=_bytes(run.devices, "fetch", apart=False),
        work_s=sum(times),
        energy_j=sum(
            prices.energy.board_w * time_s if energy_j is None else energy_j
            for energy_j, time_s in zip(energies, times, strict=True)
        ),
        measured_energy=sum(energy_j is not None for energy_j in energies),
        first_accuracy=known[0] if known else None,
        last_accuracy=known[-1] if known else None,
    )


def total(items: Sequence[Item], side: str) -> float | None:
    """All items of one way, `fleet` or `central`; None where one of them cannot be told."""
    values = [getattr(item, side) for item in items]
    return None if None in values else sum(values)


def cost_table(worth: Worth) -> Table:
    """Both ways, item by item, and per round and point of accuracy."""
    fleet, central = total(worth.items, "fleet"), total(worth.items, "central")
    points = worth.used.gained_points
    rows = [(item.name, _money(item.fleet), _money(item.central), item.how) for item in worth.items]
    rows.append(("in all", _money(fleet), _money(central), ""))
    rows.append(("a round", _money(_each(fleet, worth.used.rounds)), NONE, f"{worth.used.rounds} rounds"))
    gained = points if points is not None and points > 0 else None
    how = "no accuracy was gained that could be measured" if gained is None else f"{gained:.1f} points"
    rows.append(("a point of accuracy", _money(_each(fleet, gained)), _money(_each(central, gained)), how))
    head = ("", f"fleet, {worth.currency}", f"central, {worth.currency}", "what it is")
    return Table(head, [(name, a, b, what) for name, a, b, what in rows])


def _items(used: Used, prices: Prices) -> Iterator[Item]:
    raw_bytes = used.examples * prices.central.bytes_per_example
    yield Item(
        "data of the rounds",
        _scaled(used.round_bytes, prices.data.per_gb / _GB),
        raw_bytes * prices.data.per_gb / _GB,
        f"{_mb(used.round_bytes)} MB up and down; {_mb(raw_bytes)} MB of raw records",
    )
    pack = _scaled(used.pack_bytes, prices.data.per_gb / _GB)
    yield Item("the model to the boards", pack, pack, f"{_mb(used.pack_bytes)} MB, once, either way")
    yield Item(
        "energy of the boards",
        used.energy_j / _J_PER_KWH * prices.energy.per_kwh,
        0.0,
        f"{used.energy_j:.0f} J over {used.work_s / _S_PER_H:.2f} h of work",
    )
    per_hour = prices.board.price / (prices.board.lifetime_years * _H_PER_YEAR)
    yield Item("wear of the boards", used.work_s / _S_PER_H * per_hour, 0.0, "their price over the time that they work")
    machine = prices.central.machine_hours * prices.central.machine_per_hour
    yield Item("machine that trains", 0.0, machine, f"{prices.central.machine_hours:g} h")
    rate = prices.engineer.per_hour
    fleet_h, central_h = prices.engineer.fleet_hours, prices.engineer.central_hours
    yield Item("engineer", fleet_h * rate, central_h * rate, f"{fleet_h:g} h; {central_h:g} h")


def _assumptions(used: Used, prices: Prices) -> Iterator[str]:
    yield "Prices, hours and the size of a raw record are those of the file; none of them is measured here."
    yield f"{used.devices} devices, {used.rounds} rounds and {used.examples} examples are those of the record."
    if used.measured_energy < used.devices:
        yield (
            f"{used.devices - used.measured_energy} of {used.devices} devices measured no energy: theirs is their time "
            f"at work, at {prices.energy.board_w:g} W."
        )
    if used.measured_energy:
        yield (
            f"{used.measured_energy} of {used.devices} devices measured their energy, of what their sensors cover "
            "(docs/profiling.md), idle power included."
        )
    yield "Waiting between rounds costs nothing: a board is there for its own work, and uses its idle power either way."
    yield "Every example is sent once if it is sent at all, and the central machine reaches the same accuracy."
    yield "The central way sends the same model pack to the boards, and what it learnt in no more bytes than noise."
    yield "A board wears by the hour that it works, over its lifetime around the clock."
    yield "Accuracy is that on the devices' hold-outs, of the models that the first and the last round started from."
    yield "What it is worth that no text leaves its board has no price here."


def _break_even_bytes(used: Used, prices: Prices, items: Sequence[Item]) -> float | None:
    """The central way costs more with every byte of a record."""
    fleet = total(items, "fleet")
    rest = total([item for item in items if item is not items[0]], "central")
    per_byte = used.examples * prices.data.per_gb / _GB
    if fleet is None or rest is None or per_byte <= 0 or fleet <= rest:
        return None
    return (fleet - rest) / per_byte


_LEVERS = {
    "data of the rounds": "`training.quantisation`, `ranks.initial` and `ranks.target`, `round.rounds`, `round.cohort`",
    "the model to the boards": "`--weights` of `rankfleet pack build`, or a smaller model",
    "energy of the boards": "`training.local_steps`, `training.max_tokens`, `products` and `threads` of the agent",
    "wear of the boards": "the same as for energy",
    "machine that trains": "none: the fleet has no such machine",
    "engineer": "how many kinds of boards there are, and whether `rankfleet agent doctor` finds anything on them",
}


def _pilot(used: Used, items: Sequence[Item]) -> Iterator[str]:
    """What to do first, the most that is at stake before the rest."""
    known = sorted((item for item in items if item.fleet), key=lambda item: -(item.fleet or 0.0))
    fleet = sum(item.fleet or 0.0 for item in known)
    for item in known:
        share = (item.fleet or 0.0) / fleet
        yield f"{item.name}: {share:.1%} of the cost at these prices. It depends on {_LEVERS[item.name]}."
    yield "Measure first: the size of a raw record (one day of real records), and the price of the link at that volume."
    if used.measured_energy < used.devices:
        yield "Measure the energy of one board of each kind at its supply, for a round and for as long idle."
    yield "Run `rankfleet agent doctor` on every board, and `rankfleet profile board` on the smallest of each kind."
    yield "Begin with 3 boards, one of them the smallest, and 5 rounds; `rankfleet profile run` shows what is slowest."
    yield "Change one setting at a time, and ask `rankfleet profile compare` whether it did more than noise."
    if used.gained_points is None:
        yield "Keep a `holdout_share` on the boards: without it nobody knows what the rounds are worth."


def _energy_j(device: Device) -> float | None:
    return total_of(working([*device.phases.values()]), "energy_j")


def _work_s(device: Device) -> float:
    return sum(entry.wall_s for entry in working([*device.phases.values()]))


def _examples(device: Device) -> int:
    """Of the device, hold-out included, as its last report has them."""
    last = device.rounds[max(device.rounds)].report if device.rounds else None
    return 0 if last is None else last.examples + last.holdout_total


def _bytes(devices: Sequence[Device], phase: str, *, apart: bool) -> float | None:
    """Up and down of one phase, or of all others."""
    entries = [entry for device in devices for entry in device.phases.values() if (entry.phase != phase) == apart]
    up, down = total_of(entries, "bytes_up"), total_of(entries, "bytes_down")
    return 0.0 if not entries else None if up is None or down is None else up + down


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _each(value: float | None, count: float | None) -> float | None:
    return None if value is None or not count else value / count


def _mb(size_bytes: float | None) -> str:
    return NONE if size_bytes is None else f"{size_bytes / 1e6:.2f}"


def _money(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
