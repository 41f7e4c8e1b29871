from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edge_agent import session_events as events
from edge_agent.fetching import MANIFEST_LIMIT_BYTES, OBJECT_LIMIT_BYTES, Fetcher
from edge_agent.wire import messages as m
from edge_agent.wire.errors import FetchError, PayloadError, StoreError
from edge_agent.wire.pack import WEIGHTS, verify
from edge_agent.wire.transfer import BytesSource, serve
from tests.agents import make_welcome, path_sha256
from tests.models import tiny_pack

CHUNK_BYTES = 16_384
MANIFEST = make_welcome().pack


class Peer:
    """Serves what it has; `asked` are the objects that were wanted."""

    def __init__(self, *objects: bytes) -> None:
        self.objects = {hashlib.sha256(data).digest(): data for data in objects}
        self.asked: set[bytes] = set()

    def serves(self, fetcher: Fetcher) -> events.Event:
        """Everything that the fetcher asks for, until it has an event for the session."""
        event = None
        while event is None:
            want, event = fetcher.poll(CHUNK_BYTES, 0.0)
            if want is None:
                continue
            self.asked.add(want.sha256)
            if want.sha256 not in self.objects:
                event = fetcher.missing(want.sha256)
                continue
            for chunk in serve(want, BytesSource(self.objects[want.sha256])):
                fetcher.take(chunk, 0.0)
        return event


def ref_of(data: bytes) -> m.ObjectRef:
    return m.ObjectRef("delta", hashlib.sha256(data).digest(), len(data))


@pytest.fixture
def pack_peer() -> Peer:
    return Peer(*(path.read_bytes() for path in tiny_pack().iterdir()))


def test_a_pack_comes_whole(tmp_path: Path, pack_peer: Peer) -> None:
    fetcher = Fetcher(tmp_path)
    fetcher.start_pack(MANIFEST)
    assert pack_peer.serves(fetcher) == events.PackReady()
    verify(fetcher.pack_dir(MANIFEST.sha256))
    assert fetcher.link_bytes_per_s is not None and fetcher.link_bytes_per_s > 0


def test_files_that_are_here_are_not_asked_for_again(tmp_path: Path, pack_peer: Peer) -> None:
    for changed in (set[bytes](), {path_sha256(tiny_pack() / WEIGHTS)}):
        fetcher = Fetcher(tmp_path)
        if changed:
            (fetcher.pack_dir(MANIFEST.sha256) / WEIGHTS).write_bytes(b"damaged")
        else:
            fetcher.start_pack(MANIFEST)
            pack_peer.serves(fetcher)
        pack_peer.asked.clear()
        fetcher.start_pack(MANIFEST)
        assert pack_peer.serves(fetcher) == events.PackReady()
        assert pack_peer.asked == {MANIFEST.sha256} | changed


def test_objects_come_once_and_those_of_earlier_rounds_go(tmp_path: Path) -> None:
    old, new = b"old" * 999, b"new" * 999
    fetcher, peer = Fetcher(tmp_path), Peer(old, new)
    for data in (old, new, new):
        fetcher.start((ref_of(data),))
        assert peer.serves(fetcher) == events.Fetched()
    assert [path.read_bytes() for path in (tmp_path / "objects").iterdir()] == [new]
    peer.asked.clear()
    fetcher.start((ref_of(new),))
    assert peer.serves(fetcher) == events.Fetched() and not peer.asked


def test_an_object_that_was_damaged_on_disk_is_asked_for_again(tmp_path: Path) -> None:
    data = b"delta" * 999
    fetcher, peer = Fetcher(tmp_path), Peer(data)
    for _ in range(2):
        fetcher.start((ref_of(data),))
        peer.serves(fetcher)
        assert fetcher.object_path(ref_of(data).sha256).read_bytes() == data
        fetcher.object_path(ref_of(data).sha256).write_bytes(b"x" * len(data))


def test_nothing_to_fetch_is_fetched_at_once(tmp_path: Path) -> None:
    fetcher = Fetcher(tmp_path)
    fetcher.start(())
    assert fetcher.poll(CHUNK_BYTES, 0.0) == (None, events.Fetched())


def test_what_the_coordinator_no_longer_has_ends_the_fetch(tmp_path: Path) -> None:
    fetcher = Fetcher(tmp_path)
    fetcher.start((ref_of(b"a"), ref_of(b"b")))
    assert Peer().serves(fetcher) == events.FetchFailed()
    assert fetcher.missing(ref_of(b"b").sha256) is None, "nobody waits for it any more"


def test_what_is_damaged_at_its_source_is_refused_after_some_attempts(tmp_path: Path) -> None:
    fetcher, ref = Fetcher(tmp_path), ref_of(b"right")
    fetcher.start((ref,))
    for error in (PayloadError, PayloadError, FetchError):
        fetcher.poll(CHUNK_BYTES, 0.0)
        with pytest.raises(error):
            fetcher.take(m.Chunk(ref.sha256, 0, b"wrong"), 0.0)
    assert not fetcher.object_path(ref.sha256).exists()


@pytest.mark.parametrize(("kind", "limit_bytes"), [("manifest", MANIFEST_LIMIT_BYTES), ("delta", OBJECT_LIMIT_BYTES)])
def test_what_is_too_large_is_never_asked_for(tmp_path: Path, kind: str, limit_bytes: int) -> None:
    fetcher, ref = Fetcher(tmp_path), m.ObjectRef(kind, bytes(32), limit_bytes + 1)
    with pytest.raises(FetchError, match=f"a {kind} has at most {limit_bytes} bytes"):
        fetcher.start_pack(ref) if kind == "manifest" else fetcher.start((ref,))


def test_a_state_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "packs").write_text("in the way")
    with pytest.raises(StoreError, match=r"packs/.* cannot be used"):
        Fetcher(tmp_path).start_pack(MANIFEST)
