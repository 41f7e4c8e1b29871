"""Loading, splitting and writing labelled data."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.datasets import MIN_CLIENT_ROWS, Dataset, load_dataset, sample, split_clients, write_jsonl
from deploy.fetch.catalogue import find
from deploy.fetch.fetch import fetch
from edge_agent.data import Example, read_examples
from edge_agent.wire.errors import ConfigError, DataError, FetchError

CLASSES = ("bucket", "engine", "hydraulic")


def dataset_of(rows: int, client: str | None = None) -> Dataset:
    train = [Example(f"order {n}", CLASSES[n * n % 3], client) for n in range(rows)]
    return Dataset("orders", train, train[:1], CLASSES)


def orders(*clients: str) -> Dataset:
    return Dataset("orders", [Example(f"o{n}", "engine", c) for n, c in enumerate(clients)], [], ("engine",))


def lines(*labels: str) -> str:
    return "".join(json.dumps({"text": f"text {n}", "label": label}) + "\n" for n, label in enumerate(labels))


# Loading


def test_a_published_set_comes_from_the_cache(tmp_path: Path) -> None:
    fetch(find("excavators"), tmp_path, print)
    dataset = load_dataset("excavators", tmp_path)
    assert (dataset.name, len(dataset.train), len(dataset.test), len(dataset.classes)) == ("excavators", 1683, 426, 9)
    assert list(split_clients(dataset, how="client", clients=5, alpha=1, seed=0)) == ["A", "B", "C", "D", "E"]


def test_a_published_set_that_was_not_fetched_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKFLEET_CACHE", str(tmp_path))
    with pytest.raises(FetchError, match="run 'rankfleet fetch 20newsgroups' first"):
        load_dataset("20newsgroups")


def test_a_folder_is_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines("b", "a", "b"))
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(lines("a").encode()))
    dataset = load_dataset(str(tmp_path))
    assert dataset.name == tmp_path.name
    assert dataset.classes == ("a", "b")
    assert (len(dataset.train), dataset.test) == (3, [Example("text 0", "a")])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "expected either train.jsonl or train.jsonl.gz, found none"),
        ({"train.jsonl": lines("a", "b")}, "expected either test.jsonl or test.jsonl.gz, found none"),
        ({"train.jsonl": "", "train.jsonl.gz": ""}, "expected either train.jsonl or train.jsonl.gz, found 2"),
        ({"train.jsonl": lines("a", "b") + "{}", "test.jsonl": lines("a")}, r"train\.jsonl, line 3: "),
        ({"train.jsonl": lines("a", "a"), "test.jsonl": lines("a")}, "has 1 class; expected at least two"),
        ({"train.jsonl": lines("a", "b"), "test.jsonl": lines("a", "c")}, r"test\.jsonl, line 2: .*names no class"),
    ],
)
def test_a_folder_that_is_no_data_set_says_what_is_missing(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        load_dataset(str(tmp_path))


def test_what_is_neither_name_nor_folder_lists_both(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a data set: expected excavators, 20newsgroups, or"):
        load_dataset(str(tmp_path / "none"))


# Splitting


@given(st.integers(1, 12), st.sampled_from([0.01, 0.1, 1.0, 100.0]), st.integers(0, 2**63), st.integers(24, 80))
def test_dirichlet_deals_every_row_once_and_leaves_no_client_short(
    clients: int, alpha: float, seed: int, rows: int
) -> None:
    dataset = dataset_of(rows)
    split = split_clients(dataset, how="dirichlet", clients=clients, alpha=alpha, seed=seed)
    assert len(split) == clients
    assert min(map(len, split.values())) >= MIN_CLIENT_ROWS
    assert Counter(e for part in split.values() for e in part) == Counter(dataset.train)
    assert all(part == [e for e in dataset.train if e in set(part)] for part in split.values())


def test_dirichlet_follows_the_seed() -> None:
    first, again, other = (
        split_clients(dataset_of(60), how="dirichlet", clients=4, alpha=0.5, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert list(first) == ["client-1", "client-2", "client-3", "client-4"]


def test_a_small_alpha_skews_the_labels_and_a_large_one_does_not() -> None:
    def classes_a_client(alpha: float) -> list[int]:
        split = split_clients(dataset_of(3000), how="dirichlet", clients=6, alpha=alpha, seed=5)
        return [len({e.label for e in part}) for part in split.values()]

    assert set(classes_a_client(1000)) == {2}  # squares are never 2 modulo 3
    assert 1 in classes_a_client(0.01)


def test_names_sort_as_their_numbers_do() -> None:
    split = split_clients(dataset_of(60), how="dirichlet", clients=12, alpha=1, seed=1)
    assert list(split) == sorted(split)


def test_by_client_keeps_each_clients_rows_together_under_a_topic_name() -> None:
    split = split_clients(orders("Press #2", "Lathe/1", "Press #2"), how="client", clients=2, alpha=1, seed=0)
    assert {name: [e.text for e in part] for name, part in split.items()} == {
        "Lathe-1": ["o1"],
        "Press-2": ["o0", "o2"],
    }


def test_by_client_takes_the_first_by_name_where_there_are_more() -> None:
    assert list(split_clients(orders("c", "a", "b"), how="client", clients=2, alpha=1, seed=0)) == ["a", "b"]


@pytest.mark.parametrize(
    ("dataset", "how", "clients", "alpha", "error", "said"),
    [
        (dataset_of(9), "client", 0, 1.0, ConfigError, "at least 1 client, got 0"),
        (dataset_of(9), "dirichlet", 0, 1.0, ConfigError, "at least 1 client, got 0"),
        (dataset_of(9), "dirichlet", 5, 1.0, ConfigError, "9 training rows, too few for 5 clients of at least 2"),
        (dataset_of(9), "dirichlet", 2, 0.0, ConfigError, "alpha must be a number above 0, got 0"),
        (dataset_of(9), "dirichlet", 2, float("inf"), ConfigError, "alpha must be a number above 0, got inf"),
        (dataset_of(9), "dirichlet", 2, float("nan"), ConfigError, "alpha must be a number above 0, got nan"),
        (dataset_of(9), "client", 2, 1.0, DataError, "not every training example names its client"),
        (dataset_of(9, "x"), "client", 2, 1.0, ConfigError, "number 1, 2 were asked for: ask for fewer"),
        (orders("a b", "a-b"), "client", 2, 1.0, DataError, "two clients get the same name"),
        (orders("/"), "client", 1, 1.0, ConfigError, "the client '/' must be 1 to 64 letters"),
    ],
)
def test_a_split_that_cannot_be_made_says_why(dataset, how, clients, alpha, error, said) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=said):
        split_clients(dataset, how=how, clients=clients, alpha=alpha, seed=0)


# Writing


@pytest.mark.parametrize("name", ["d.jsonl", "sub/d.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    examples = [Example("zähne\n", "bucket"), Example('"', "engine", "A")]
    write_jsonl(tmp_path / name, examples)
    assert read_examples(tmp_path / name, None) == examples
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_the_same_examples_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_jsonl(tmp_path / name, dataset_of(5).train)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_a_failed_write_keeps_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "d.jsonl"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"d\.jsonl cannot be written \(No space left on device\)"):
        write_jsonl(path, dataset_of(3).train)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("d.jsonl", "old")]


def test_a_sample_of_an_ordered_file_holds_every_class_and_is_always_the_same() -> None:
    ordered = [Example(f"text {n}", f"class {n // 100}") for n in range(1000)]
    some = sample(ordered, 200)
    assert len(some) == 200
    assert {example.label for example in some} == {example.label for example in ordered}
    assert sample(list(reversed(ordered)), 200) == some
    assert sample(ordered, 0) == sample(ordered, 1000) == ordered
