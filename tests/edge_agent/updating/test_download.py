"""A bundle arrives whole and unaltered, whatever the link does meanwhile, and no byte comes twice without need."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.updating import download
from edge_agent.updating.gateway import Gateway
from edge_agent.updating.settings import UpdaterConfig
from edge_agent.wire.errors import EnrolmentError, FetchError
from edge_agent.wire.updates import ReleaseOrder
from tests.update_gateway import UpdateGateway

DATA = bytes(range(256)) * 4096
NAME = "rankfleet-agent-1.1-x86_64-cp311.tar"


def order(data: bytes = DATA) -> ReleaseOrder:
    return ReleaseOrder(NAME, hashlib.sha256(data).hexdigest(), len(data), "1.1", "agent", 1)


@pytest.fixture
def source(fleet: UpdateGateway, config: UpdaterConfig) -> download.Source:
    (fleet.folder / "releases" / NAME).write_bytes(DATA)
    return Gateway(config).bundle


def test_a_link_that_breaks_again_and_again_delivers_every_byte_once(
    fleet: UpdateGateway, source: download.Source, tmp_path: Path
) -> None:
    fleet.faults.cuts = 7
    assert download.download(source, order(), tmp_path, 0).read_bytes() == DATA
    assert fleet.sent_bytes == len(DATA)


def test_a_download_goes_on_after_an_earlier_run(fleet: UpdateGateway, source: download.Source, tmp_path: Path) -> None:
    (tmp_path / f"{order().sha256}.tar").write_bytes(DATA[:1_000_000])
    assert download.download(source, order(), tmp_path, 0).read_bytes() == DATA
    assert fleet.sent_bytes == len(DATA) - 1_000_000


def test_a_gateway_without_ranges_sends_all_of_it(
    fleet: UpdateGateway, source: download.Source, tmp_path: Path
) -> None:
    fleet.faults.ranges = False
    (tmp_path / f"{order().sha256}.tar").write_bytes(b"x" * 1_000_000)
    assert download.download(source, order(), tmp_path, 0).read_bytes() == DATA


def test_a_damaged_part_is_fetched_anew(source: download.Source, tmp_path: Path) -> None:
    (tmp_path / f"{order().sha256}.tar").write_bytes(b"x" * 1000)
    assert download.download(source, order(), tmp_path, 0).read_bytes() == DATA


def test_another_file_than_ordered_is_refused_and_not_kept(
    fleet: UpdateGateway, source: download.Source, tmp_path: Path
) -> None:
    (fleet.folder / "releases" / NAME).write_bytes(b"x" * len(DATA))
    with pytest.raises(FetchError, match="came twice with another sha256"):
        download.download(source, order(), tmp_path, 0)
    assert not list(tmp_path.glob("*.tar"))


def test_a_file_that_is_too_large_is_refused(fleet: UpdateGateway, source: download.Source, tmp_path: Path) -> None:
    (fleet.folder / "releases" / NAME).write_bytes(DATA + b"x")
    with pytest.raises(FetchError, match="sends more"):
        download.download(source, order(), tmp_path, 0)


def test_a_gateway_that_is_gone_ends_the_run_and_keeps_what_came(
    fleet: UpdateGateway, source: download.Source, tmp_path: Path
) -> None:
    (tmp_path / f"{order().sha256}.tar").write_bytes(DATA[:5000])
    fleet.close()
    with pytest.raises(EnrolmentError, match="cannot be asked"):
        download.download(source, order(), tmp_path, 0)
    assert (tmp_path / f"{order().sha256}.tar").read_bytes() == DATA[:5000]


def test_a_full_disk_is_told_before_anything_is_fetched(
    source: download.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * len(DATA)))
    with pytest.raises(FetchError, match="are free: make some room"):
        download.download(source, order(), tmp_path, 0)


def test_other_downloads_are_dropped(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar", "report.json"):
        (tmp_path / name).write_bytes(b"x")
    download.drop(tmp_path, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "report.json"]


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 60), max_size=20), st.booleans())
def test_any_link_delivers_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, lengths: list[int], ranges: bool
) -> None:
    left = [*lengths, 200]

    def source(_: str, offset: int) -> Iterator[tuple[int, bytes]]:
        start = offset if ranges else 0
        end = min(len(data), start + left.pop(0)) if len(left) > 1 else len(data)
        for place in range(start, end, 7):
            yield place, data[place : min(end, place + 7)]
        if end < len(data):
            raise EnrolmentError("the connection was lost")

    while True:  # one run of the timer after the other
        folder = tmp_path_factory.getbasetemp()
        try:
            path = download.download(source, order(data), folder, 0)
        except EnrolmentError:
            continue
        assert path.read_bytes() == data
        path.unlink()
        return
