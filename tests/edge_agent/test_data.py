"""Reading a device's data: what is accepted, what every refusal says, and that no refusal tells the data."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.data import (
    LINE_LIMIT_BYTES,
    MIN_ROWS_FOR_HOLDOUT,
    Example,
    Exceptions,
    read_examples,
    read_growing,
    split_again,
    split_holdout,
)
from edge_agent.wire.errors import DataError

GOOD = b'{"text": "pump leaks", "label": "hydraulic"}\n'
SECRET = "Q7-confidential"
CLASSES = ("bucket", "hydraulic")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz"])
def test_reads_json_lines(tmp_path: Path, name: str) -> None:
    content = GOOD + b'\n{"id": 7, "label": "bucket", "text": "z\xc3\xa4hne", "client": "A"}'
    assert read_examples(written(tmp_path / name, content), CLASSES) == [
        Example("pump leaks", "hydraulic"),
        Example("zähne", "bucket", "A"),
    ]


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz"])
def test_reads_csv(tmp_path: Path, name: str) -> None:
    content = '\ufefflabel,text,client\r\nbucket,"won\'t open, or\nclose",B\r\n\r\nhydraulic,leak,\r\n'.encode()
    assert read_examples(written(tmp_path / name, content), None) == [
        Example("won't open, or\nclose", "bucket", "B"),
        Example("leak", "hydraulic"),
    ]


@given(st.lists(st.builds(Example, st.text(min_size=1).filter(str.strip), st.sampled_from(CLASSES)), min_size=1))
def test_what_json_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, examples: list[Example]) -> None:
    path = tmp_path_factory.mktemp("data") / "d.jsonl"
    path.write_text("".join(json.dumps({"text": e.text, "label": e.label}) + "\n" for e in examples))
    assert read_examples(path, CLASSES) == examples


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.jsonl", b"", "d.jsonl is empty: expected at least one line"),
        ("d.jsonl", b"\n \n", "d.jsonl is empty"),
        ("d.jsonl", GOOD + b'{"text": "%s",' % SECRET.encode(), "line 2: Input data was truncated; expected an object"),
        ("d.jsonl", GOOD + b'{"text": %s}' % SECRET.encode(), "line 2: JSON is malformed"),
        ("d.jsonl", b'["%s"]' % SECRET.encode(), "line 1: Expected `object`, got `array`"),
        ("d.jsonl", b'{"%s": ' % SECRET.encode() + b"[" * 100_000, "line 1: maximum recursion depth"),
        ("d.jsonl", b'{"label": "%s"}' % SECRET.encode(), "line 1: Object missing required field `text`"),
        ("d.jsonl", b'{"text": "%s"}' % SECRET.encode(), "line 1: Object missing required field `label`"),
        ("d.jsonl", b'{"text": 7, "label": "%s"}' % SECRET.encode(), "line 1: Expected `str`, got `int` .*text"),
        ("d.jsonl", b'{"text": "%s", "label": null}' % SECRET.encode(), "line 1: Expected `str`, got `null` .*label"),
        ("d.jsonl", b'{"text": " ", "label": "%s"}' % SECRET.encode(), "line 1: the field 'text' is blank"),
        ("d.jsonl", b'{"text": "%s", "label": ""}' % SECRET.encode(), "line 1: the field 'label' is blank"),
        ("d.jsonl", b'{"text": "a", "label": "%s"}' % (SECRET * 9).encode(), "line 1: Expected .* length <= 128"),
        ("d.jsonl", GOOD * 2 + b'{"text": "%s\xff", "label": "a"}' % SECRET.encode(), "line 3: not UTF-8: save"),
        (
            "d.jsonl",
            GOOD + b'{"text": "a", "label": "%s"}' % SECRET.encode(),
            'line 2: the field \'label\' names no class of this fleet, which are: "bucket", "hydraulic"$',
        ),
        ("d.csv", b"", "d.csv is empty"),
        ("d.csv", b"text,label\n", "d.csv is empty"),
        ("d.csv", b"%s,hydraulic\n" % SECRET.encode(), "line 1: expected a header with 'text' and 'label'"),
        ("d.csv", b"text,label\na,bucket\n%s\n" % SECRET.encode(), "line 3: expected 2 fields.*got 1"),
        ("d.csv", b'text,label\n"%s' % SECRET.encode(), "line 2: not CSV: unexpected end of data"),
        ("d.csv", b"text,label\n%s,\n" % SECRET.encode(), "line 2: the field 'label' is blank"),
        ("d.csv", b"text,label\na,%s\n" % (SECRET * 9).encode(), "line 2: Expected .* length <= 128"),
        ("d.csv", b"text,label\na,%s\n" % SECRET.encode(), "line 2: the field 'label' names no class"),
        ("d.txt", GOOD, "d.txt: expected a name that ends in .jsonl or .csv"),
        ("d.gz", GOOD, "d.gz: expected a name that ends in .jsonl or .csv"),
    ],
)
def test_a_refusal_names_the_line_and_never_the_data(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_examples(written(tmp_path / name, content), CLASSES)
    assert name in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.csv.gz"])
def test_a_line_that_would_fill_the_memory_is_refused(tmp_path: Path, name: str) -> None:
    first = b"text,label\n" if ".csv" in name else GOOD
    path = written(tmp_path / name, first + bytes(LINE_LIMIT_BYTES + 1))
    with pytest.raises(DataError, match=rf"line 2: longer than {LINE_LIMIT_BYTES} bytes"):
        read_examples(path, None)


def test_a_truncated_gzip_file_names_the_last_line_read(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl.gz", GOOD * 3)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"d\.jsonl\.gz: damaged gzip file behind line \d: .*copy it again"):
        read_examples(path, CLASSES)


@pytest.mark.parametrize("damage", [b"not gzip at all", gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 40])
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "d.jsonl.gz").write_bytes(damage)
    with pytest.raises(DataError, match="damaged gzip file behind line 0"):
        read_examples(tmp_path / "d.jsonl.gz", CLASSES)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read .No such file or directory.: check the path"):
        read_examples(tmp_path / "none.jsonl", None)


def test_many_classes_are_abbreviated(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", GOOD)
    with pytest.raises(DataError, match=r'"c11", \.\.\. \(77 in all\)$'):
        read_examples(path, tuple(f"c{n:02}" for n in range(77)))


TEXTS = st.lists(st.text(alphabet="abc", max_size=3), min_size=1, max_size=60)


def examples_of(texts: list[str]) -> list[Example]:
    return [Example(text, "bucket", str(index)) for index, text in enumerate(texts)]


@given(TEXTS, st.integers(0, 2**31), st.floats(0.01, 0.99))
def test_the_holdout_parts_the_rows_by_their_text(texts: list[str], seed: int, share: float) -> None:
    examples = examples_of(texts)
    train, held = split_holdout(examples, share=share, seed=seed)
    assert sorted(train + held, key=lambda e: int(e.client or 0)) == examples
    assert not {e.text for e in train} & {e.text for e in held}
    assert train
    if len(examples) >= MIN_ROWS_FOR_HOLDOUT and len(set(texts)) > 1:
        assert held


@given(TEXTS, st.randoms())
def test_the_holdout_does_not_depend_on_the_order(texts: list[str], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(texts)
    random.shuffle(shuffled)
    sides = [{e.text for e in split_holdout(examples_of(t), seed=1)[1]} for t in (texts, shuffled)]
    assert sides[0] == sides[1]


def test_a_new_row_moves_no_other() -> None:
    texts = [f"order {n}" for n in range(200)]
    before = {e.text for e in split_holdout(examples_of(texts), seed=3)[1]}
    after = {e.text for e in split_holdout(examples_of([*texts, "new"]), seed=3)[1]}
    assert before <= after <= before | {"new"}
    assert 15 <= len(before) <= 45


def test_the_holdout_follows_the_seed() -> None:
    examples = examples_of([f"order {n}" for n in range(200)])
    assert split_holdout(examples, seed=1) == split_holdout(examples, seed=1)
    assert split_holdout(examples, seed=1) != split_holdout(examples, seed=2)


def test_one_text_is_trained_on_not_held_out() -> None:
    assert split_holdout(examples_of(["a"] * 20), share=0.99, seed=1)[1] == []


def test_a_share_of_nought_holds_nothing_out() -> None:
    assert split_holdout(examples_of(["a", "b"] * 20), share=0, seed=1)[1] == []


def test_no_examples_cannot_be_split() -> None:
    with pytest.raises(DataError, match="no examples to split"):
        split_holdout([], seed=1)


def test_reading_imports_no_numpy() -> None:
    code = "import sys, edge_agent.data; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Files that are still written


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("d.jsonl", GOOD, 1),
        ("d.jsonl", GOOD + b'{"text": "half', 1),
        ("d.jsonl", GOOD + GOOD[:-1], 1),
        ("d.jsonl", b"", 0),
        ("d.csv", b"text,label\nleak,hydraulic\nhalf,hydr", 1),
        ("d.csv", b'text,label\nleak,hydraulic\n"one\ntwo', 1),
        ("d.csv", b"text,la", 0),
        ("d.jsonl", GOOD + b'{"text": "\xc3', 1),
    ],
)
def test_of_a_file_that_grows_only_whole_lines_are_read(tmp_path: Path, name: str, content: bytes, rows: int) -> None:
    assert len(read_growing(written(tmp_path / name, content), CLASSES)) == rows


def test_a_compressed_file_that_grows_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl.gz", GOOD * 3)
    whole = path.read_bytes()
    for size in (0, *range(2, len(whole) + 1)):  # one byte alone is no gzip yet
        path.write_bytes(whole[:size])
        assert len(read_growing(path, CLASSES)) <= 3
    assert len(read_growing(path, CLASSES)) == 3


def test_a_whole_line_that_is_wrong_is_an_error_in_a_file_that_grows_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: the field 'label' names no class"):
        read_growing(written(tmp_path / "d.jsonl", GOOD + b'{"text": "a", "label": "b"}\n'), CLASSES)


def test_what_is_told_of_an_error_is_without_the_files_name(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_examples(written(tmp_path / f"{SECRET}.jsonl", GOOD + b"{"), CLASSES)
    assert caught.value.told.startswith("a data file, line 2: Input data was truncated")
    assert SECRET in str(caught.value) and str(tmp_path) not in caught.value.told
    assert "log" in DataError("anything of somebody else").told


# The split of data that grow


@given(st.lists(TEXTS, min_size=2, max_size=5), st.integers(0, 99), st.floats(0.01, 0.99))
def test_while_rows_are_added_none_that_was_held_out_is_ever_trained(
    parts: list[list[str]], seed: int, share: float
) -> None:
    known, before, rows = Exceptions(), set[str](), list[str]()
    for part in parts:
        rows += part
        train, held, known = split_again(examples_of(rows), share=share, seed=seed, known=known)
        now = {example.text for example in held}
        assert before <= now and not before & {example.text for example in train}
        assert train and (held or len(rows) < MIN_ROWS_FOR_HOLDOUT or len(set(rows)) < 2)
        before = now


@given(TEXTS, st.integers(0, 99), st.floats(0.01, 0.99))
def test_the_first_split_is_the_one_that_knows_of_nothing(texts: list[str], seed: int, share: float) -> None:
    examples = examples_of(texts)
    parts = split_again(examples, share=share, seed=seed, known=Exceptions())
    assert (parts.train, parts.holdout) == split_holdout(examples, share=share, seed=seed)
    assert split_again(examples, share=share, seed=seed, known=parts.exceptions) == parts


def test_an_exception_stays_where_it_was_put() -> None:
    """Without it, the one that was taken for want of another would be trained once another comes."""
    few = [text for text in (f"order {n}" for n in range(60)) if split_holdout(examples_of([text, text * 2]), seed=0)]
    high = [text for text in few if text not in {e.text for e in split_holdout(examples_of(few), seed=0)[1]}][:8]
    low = [text for text in few if text in {e.text for e in split_holdout(examples_of(few), seed=0)[1]}]
    first = split_again(examples_of(high), share=0.15, seed=0, known=Exceptions())
    (taken,) = {example.text for example in first.holdout}
    forgetful = split_holdout(examples_of([*high, low[0]]), seed=0)
    assert taken in {example.text for example in forgetful[0]}
    second = split_again(examples_of([*high, low[0]]), share=0.15, seed=0, known=first.exceptions)
    assert {taken, low[0]} == {example.text for example in second.holdout}


def test_where_only_what_was_held_out_is_left_one_of_it_is_trained() -> None:
    parts = split_again(examples_of([f"order {n}" for n in range(60)]), share=0.15, seed=0, known=Exceptions())
    left = split_again(parts.holdout, share=0.15, seed=0, known=parts.exceptions)
    assert len({example.text for example in left.train}) == 1
