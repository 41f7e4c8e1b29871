"""The table of what can be fetched is consistent."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from deploy.fetch.catalogue import CATALOGUE, Entry, File, find
from edge_agent.wire.errors import FetchError

ENTRIES = pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)


def every_file(entry: Entry) -> list[File]:
    return [file for wheel in entry.wheels for file in wheel.files] + list(entry.files)


@ENTRIES
def test_every_file_and_wheel_is_pinned(entry: Entry) -> None:
    digests = [file.sha256 for file in every_file(entry)] + [wheel.sha256 for wheel in entry.wheels]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert all(file.size_bytes > 0 for file in every_file(entry))


@ENTRIES
def test_no_file_leaves_its_folder(entry: Entry) -> None:
    for file in every_file(entry):
        path = PurePosixPath(file.path)
        assert not path.is_absolute() and ".." not in path.parts


@ENTRIES
def test_no_code_of_a_package_is_taken(entry: Entry) -> None:
    assert not [file.path for file in every_file(entry) if file.path.endswith((".py", ".so", ".pyd"))]


@ENTRIES
def test_origin_and_licence_are_named(entry: Entry) -> None:
    assert entry.about and entry.origin and entry.licence


def test_space_needed_covers_wheel_twice_and_result() -> None:
    entry = CATALOGUE["mpnet-base"]
    assert entry.needed_bytes > entry.download_bytes + entry.size_bytes


def test_find_returns_the_entry_of_that_name() -> None:
    assert find("excavators").name == "excavators"


@pytest.mark.parametrize(
    ("name", "said"),
    [("excavator", "did you mean 'excavators'"), ("minilm", "did you mean 'minilm-l6'"), ("zzz", "mpnet-base")],
)
def test_unknown_name_lists_the_names_and_suggests_the_nearest(name: str, said: str) -> None:
    with pytest.raises(FetchError, match=said) as caught:
        find(name)
    assert all(known in str(caught.value) for known in CATALOGUE)
