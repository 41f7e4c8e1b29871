"""The published sets are read as described: which rows count, what is one text, who has it, what is held back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from deploy.fetch.catalogue import find
from deploy.fetch.fetch import fetch
from deploy.published import EXCAVATOR_SYSTEMS, excavators, newsgroups
from edge_agent.data import Example


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Example], list[Example]]:
    return excavators(fetch(find("excavators"), tmp_path_factory.mktemp("cache"), print))


def test_the_real_excavators_have_2109_distinct_texts(real: tuple[list[Example], list[Example]]) -> None:
    texts = [example.text.lower() for part in real for example in part]
    assert len(texts) == len(set(texts)) == 2109


def test_the_real_excavators_are_five_clients_of_different_size(real: tuple[list[Example], list[Example]]) -> None:
    assert Counter(e.client for e in real[0]) == {"A": 42, "B": 376, "C": 264, "D": 732, "E": 269}


def test_the_real_common_test_set_is_a_fifth_with_every_system(real: tuple[list[Example], list[Example]]) -> None:
    train, test = real
    assert (len(train), len(test)) == (1683, 426)
    systems = Counter(example.label for example in test)
    assert systems.keys() == {example.label for example in train} == EXCAVATOR_SYSTEMS
    assert systems.most_common(1) == [("Hydraulic System", 177)]


def write_orders(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    lines = ["Asset,OriginalShorttext,MajorSystem", *(",".join(row) for row in rows)]
    (folder / "excavators-cleaned.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_only_rows_of_exactly_one_known_system_count(tmp_path: Path) -> None:
    rows = [("A", "one", "Engine"), ("A", "two", "Engine_Radiator"), ("A", "three", "NA"), ("A", "four", "Slew")]
    train, test = excavators(write_orders(tmp_path, rows))
    assert train + test == [Example("one", "Engine", "A")]


def test_the_first_row_of_a_text_gives_its_spelling_system_and_machine(tmp_path: Path) -> None:
    rows = [("B", "Replace Cleaner", "Engine"), ("A", "REPLACE cleaner", "Induction and Exhaust")]
    train, test = excavators(write_orders(tmp_path, rows))
    assert train + test == [Example("Replace Cleaner", "Engine", "B")]


def test_a_texts_side_depends_on_nothing_but_itself(tmp_path: Path) -> None:
    rows = [("A", f"order {n}", "Engine") for n in range(100)]
    test = excavators(write_orders(tmp_path, rows))[1]
    fewer = excavators(write_orders(tmp_path, rows[::2]))[1]
    assert 10 <= len(test) <= 30
    assert fewer == [example for example in test if int(example.text.split()[1]) % 2 == 0]


def test_newsgroups_skips_three_header_rows_reads_quotes_as_they_are_and_cuts(tmp_path: Path) -> None:
    header = "Category\tText\nd\tstring\nclass\t\n\n"
    (tmp_path / "20newsgroups-train.tab").write_text(f'{header}alt.x\tsaid "hi\nsci.y\t{"z" * 3000}\n\n')
    (tmp_path / "20newsgroups-test.tab").write_text(f"{header}alt.x\ttest\n")
    train, test = newsgroups(tmp_path)
    assert train == [Example('said "hi', "alt.x"), Example("z" * 2000, "sci.y")]
    assert test == [Example("test", "alt.x")]


@pytest.mark.slow
def test_the_real_newsgroups_have_20_classes(tmp_path: Path) -> None:
    train, test = newsgroups(fetch(find("20newsgroups"), tmp_path, print))
    assert (len(train), len(test)) == (11293, 7528)
    assert len({e.label for e in train}) == len({e.label for e in test}) == 20
