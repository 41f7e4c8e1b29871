"""Tokens of whoever administers a fleet: shown once, kept as hashes."""

from __future__ import annotations

from pathlib import Path

from coordinator.enrolment.admin_token import digest, is_valid, keep, kept, make
from coordinator.enrolment.folder import FleetFolder


def test_a_token_that_was_kept_is_valid_and_no_other_and_it_is_nowhere_on_disk(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    folder.make()
    first, second, stranger = make(), make(), make()
    assert not is_valid(folder, first) and kept(folder) == []
    keep(folder, first)
    keep(folder, second)
    assert [is_valid(folder, token) for token in (first, second, stranger, "", first[:-1], "größe")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert kept(folder) == [digest(first), digest(second)]
    assert not is_valid(folder, digest(first)), "who reads the file has no token"
    assert folder.admin_tokens.stat().st_mode & 0o777 == 0o600
    assert first not in folder.admin_tokens.read_text()


def test_tokens_are_long_and_differ() -> None:
    tokens = {make() for _ in range(100)}
    assert len(tokens) == 100 and min(map(len, tokens)) >= 46


def test_a_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    folder.admin_tokens.write_bytes(b"\xff\x00 x\n\n")
    assert not is_valid(folder, "") and not is_valid(folder, "x")
