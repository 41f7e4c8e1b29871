"""The report of a run: a page to look at, tables for a document, and every recorded figure for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_agent.round_log import PhaseEntry
from profiling.files import write_atomically
from profiling.html import add, add_list, add_plots, add_table, finish_page, start_page
from profiling.rounds.load import Run
from profiling.rounds.plots import device_plots, run_plots
from profiling.rounds.ranks import RankMap, find_ranks
from profiling.rounds.summary import header_table, phase_table, round_table
from profiling.table import markdown_table

TITLE = "Rounds on devices"
NOTES = (
    "Phases: medians over the rounds that trained; what belongs to no round (`join`, `fetch`, `measure`, `finish`) has "
    "one value. `-` is what could not be measured.",
    "Memory is of supervisor and trainer together; energy, heat and clock are of the board. `measured MB` is what the "
    "budget bounds: anonymous memory, and the mapped working set.",
    "Accuracy is that on the hold-outs, of the model that a round starts from, against what all rounds before took.",
)


def write_report(path: Path, run: Run, folder: Path, command: str) -> list[Path]:
    """Writes `report.html`, `report.md` and `phases.csv` to `folder`, each whole or not at all; returns their paths.

    Raises:
        StoreError: a file cannot be written, or the run's database cannot be read.
    """
    texts = {
        folder / "report.html": page(run, find_ranks(path), command),
        folder / "report.md": markdown(run, command),
        folder / "phases.csv": phases_csv(run),
    }
    for file, text in texts.items():
        write_atomically(file, text.encode())
    return list(texts)


def page(run: Run, ranks: RankMap | None, command: str) -> str:
    """The page: no script, and nothing from elsewhere."""
    root, body = start_page(TITLE)
    add(add(body, "p", ""), "code", command)
    add_list(body, NOTES)
    add_table(body, header_table(run.devices))
    add_plots(body, run_plots(run, ranks))
    for device in run.devices:
        add(body, "h2", device.name)
        add(body, "h3", "Phases")
        add_table(body, phase_table(device))
        add(body, "h3", "Rounds")
        add_table(body, round_table(device))
        add_plots(body, device_plots(device))
    return finish_page(root)


def markdown(run: Run, command: str) -> str:
    """The same tables, without plots; the first line says which command made it."""
    lines = [f"Made by `{command}`: run it again rather than change this file.", "", f"# {TITLE}", ""]
    lines += [*(f"- {note}" for note in NOTES), "", *markdown_table(header_table(run.devices))]
    for device in run.devices:
        lines += ["", f"## {device.name}", "", *markdown_table(phase_table(device))]
        lines += ["", *markdown_table(round_table(device))]
    return "\n".join(lines) + "\n"


def phases_csv(run: Run) -> str:
    """A line a device, round and phase, with every figure as it was recorded; what is null there is empty here."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = PhaseEntry.__struct_fields__
    writer.writerow(("device", *names))
    writer.writerows(_csv_rows(run, names))
    return file.getvalue()


def _csv_rows(run: Run, names: tuple[str, ...]) -> Iterator[tuple[object, ...]]:
    for device in run.devices:
        for entry in device.phases.values():
            values = msgspec.structs.asdict(entry)
            cells = (";".join(value) if isinstance(value, tuple) else value for value in (values[n] for n in names))
            yield (device.name, *cells)
