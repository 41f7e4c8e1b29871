"""Examples from a function: what is taken, and that nothing that it says gets out."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.data import Example
from edge_agent.data_files import EntryPoint
from edge_agent.entry_point import read_entry_point
from edge_agent.wire.errors import DataError

CLASSES = ("bucket", "pump")
SECRET = "Q7-confidential"
ENTRY = EntryPoint("plant_feed", "rows")
Feed = Callable[[str], Path]


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    """Writes the module; it is forgotten afterwards."""
    before = list(sys.path)

    def write(code: str) -> Path:
        (tmp_path / "plant_feed.py").write_text(textwrap.dedent(code))
        return tmp_path

    yield write
    sys.path[:] = before
    sys.modules.pop("plant_feed", None)


def test_pairs_and_mappings_are_examples(feed: Feed) -> None:
    folder = feed(
        """
        def rows():
            yield "leaks", "pump"
            yield ["bent", "bucket"]
            yield {"text": "worn", "label": "bucket", "client": "A", "weight": 3}
        """
    )
    assert read_entry_point(ENTRY, folder, CLASSES) == [
        Example("leaks", "pump"),
        Example("bent", "bucket"),
        Example("worn", "bucket", "A"),
    ]


def test_an_installed_module_needs_no_folder() -> None:
    with pytest.raises(DataError, match="python:json:dumps failed behind row 0: TypeError"):
        read_entry_point(EntryPoint("json", "dumps"), None, CLASSES)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f'("{SECRET}", "gearbox")', "row 2: the field 'label' names no class of this fleet"),
        (f'("{SECRET}", "{SECRET}")', "row 2: the field 'label' names no class of this fleet"),
        (f'("{SECRET}", 7)', "row 2: Expected `str`, got `int`"),
        (f'{{"text": "{SECRET}"}}', "row 2: Object missing required field `label`"),
        (f'("{SECRET}", "pump", 1.0)', "row 2: expected a pair of text and label"),
        (f'"{SECRET}"', "row 2: expected a pair of text and label"),
        (f'(" ", "{SECRET}")', "row 2: the field 'text' is blank"),
        (f'("{SECRET}\\ud800", "pump")', "row 2: the field 'text' holds half of a surrogate pair"),
    ],
)
def test_what_is_no_example_is_named_by_its_number_and_never_quoted(feed: Feed, row: str, said: str) -> None:
    folder = feed(f'def rows():\n    return [("good", "pump"), {row}]\n')
    assert_kept_back(folder, said)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"def rows():\n    yield 'good', 'pump'\n    raise ValueError('{SECRET}')", "behind row 1: ValueError"),
        (f"def rows():\n    raise KeyError('{SECRET}')", "behind row 0: KeyError"),
        (f"import sys\ndef rows():\n    sys.exit('{SECRET}')", "behind row 0: SystemExit"),
        (f"raise RuntimeError('{SECRET}')", "behind row 0: RuntimeError"),
        (f"def rows()  # {SECRET}", "behind row 0: SyntaxError"),
        (f"SECRET = '{SECRET}'", "behind row 0: AttributeError"),
        ("def rows():\n    return None", "behind row 0: TypeError"),
        ("def rows():\n    return []", "gives no examples"),
    ],
)
def test_a_failure_tells_its_kind_and_place_and_never_what_it_said(feed: Feed, code: str, said: str) -> None:
    assert_kept_back(feed(code), said)


def assert_kept_back(folder: Path, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_entry_point(ENTRY, folder, CLASSES)
    for text in (str(caught.value), caught.value.told):
        assert SECRET not in text and SECRET[:5] not in text
        assert said.partition(":")[0] in text
    assert "python:plant_feed:rows" in str(caught.value) and str(folder) not in caught.value.told
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or not caught.value.__context__)


def test_the_place_of_a_failure_stays_on_the_board(feed: Feed) -> None:
    folder = feed("def rows():\n    return 1 / 0\n")
    with pytest.raises(DataError, match=rf"ZeroDivisionError at {folder}/plant_feed\.py:2 \(rows\)"):
        read_entry_point(ENTRY, folder, CLASSES)


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="python:plant_feed:rows failed behind row 0: ModuleNotFoundError"):
        read_entry_point(ENTRY, tmp_path, CLASSES)


def test_what_it_prints_goes_nowhere(feed: Feed, capfd: pytest.CaptureFixture[str]) -> None:
    folder = feed(
        f"""
        import os, subprocess, sys
        def rows():
            print("{SECRET}")
            print("{SECRET}", file=sys.stderr, end="")
            os.write(1, b"{SECRET}")
            subprocess.run(["echo", "{SECRET}"], check=True)
            yield "good", "pump"
        """
    )
    assert read_entry_point(ENTRY, folder, CLASSES) == [Example("good", "pump")]
    sys.stdout.write("heard again\n")
    assert capfd.readouterr() == ("heard again\n", "")
