from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.enrolment.joining import Name, digest_of, find_token, is_renewal_due, read_names
from coordinator.enrolment.registry import Token
from edge_agent.wire.errors import ConfigError, EnrolmentError

FINGERPRINT = "0123456789abcdef" * 4


def test_names_are_read_line_by_line() -> None:
    text = f"# the site\npi-1\n\n  pi-2 {FINGERPRINT.upper()}  # by the door\n"
    assert read_names(text) == [Name("pi-1", ""), Name("pi-2", FINGERPRINT)]


@pytest.mark.parametrize("line", ["a/b", "coordinator", "pi-1 abc", f"pi-1 {FINGERPRINT} more", "pi-1 " + "x" * 64])
def test_a_line_that_is_no_name_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        read_names(f"pi-0\n{line}\n")


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.data())
def test_a_token_is_found_among_others_and_nothing_else_is(texts: list[str], data: st.DataObject) -> None:
    tokens = [Token(digest_of(text), None, 0, None) for text in texts]
    sought = data.draw(st.sampled_from(texts))
    assert find_token(tokens, sought).sha256 == digest_of(sought)
    with pytest.raises(EnrolmentError, match="no such token"):
        find_token(tokens, "".join(texts) + ".")


@given(st.integers(0, 10**9), st.integers(3, 10**9))
def test_renewal_is_due_in_the_last_third(issued_s: int, lifetime_s: int) -> None:
    ends_s = issued_s + lifetime_s
    assert not is_renewal_due(issued_s, ends_s, 0, ends_s - lifetime_s // 3 - 1)
    assert is_renewal_due(issued_s, ends_s, 0, ends_s)
    assert is_renewal_due(issued_s, ends_s, 1, issued_s)
