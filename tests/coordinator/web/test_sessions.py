"""Sessions end: when they are idle, after half a day, with their admin token, and when somebody logs out."""

from __future__ import annotations

from coordinator.web.sessions import IDLE_S, LONGEST_S, MOST_SESSIONS, Sessions, same


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_session_is_found_by_its_cookie_alone() -> None:
    sessions = Sessions(lambda digest: True, Clock())
    first, second = sessions.begin("digest"), sessions.begin("digest")
    found = sessions.find(first)
    assert found is not None and found.csrf not in (first, second)
    assert sessions.find("another") is None and sessions.find(None) is None and sessions.find("") is None


def test_it_ends_when_it_is_idle_and_after_half_a_day_however_busy() -> None:
    clock = Clock()
    sessions = Sessions(lambda digest: True, clock)
    idle, busy = sessions.begin("digest"), sessions.begin("digest")
    while clock.now_s < LONGEST_S - IDLE_S:
        clock.now_s += IDLE_S / 2
        assert sessions.find(busy) is not None
    assert sessions.find(idle) is None
    for _ in range(2):
        clock.now_s += IDLE_S / 2
        last = sessions.find(busy)
    assert last is None


def test_it_ends_with_the_token_that_opened_it() -> None:
    kept = {"digest"}
    sessions = Sessions(kept.__contains__, Clock())
    cookie = sessions.begin("digest")
    assert sessions.find(cookie) is not None
    kept.clear()
    assert sessions.find(cookie) is None
    kept.add("digest")
    assert sessions.find(cookie) is None, "it does not come back"


def test_who_logs_out_is_out() -> None:
    sessions = Sessions(lambda digest: True, Clock())
    cookie, other = sessions.begin("digest"), sessions.begin("digest")
    sessions.end(cookie)
    assert sessions.find(cookie) is None and sessions.find(other) is not None


def test_of_too_many_the_one_that_is_idle_longest_goes() -> None:
    clock = Clock()
    sessions = Sessions(lambda digest: True, clock)
    cookies = []
    for _ in range(MOST_SESSIONS + 1):
        clock.now_s += 1
        cookies.append(sessions.begin("digest"))
    assert [sessions.find(cookie) is None for cookie in cookies] == [True] + [False] * MOST_SESSIONS


def test_what_is_missing_is_not_the_same() -> None:
    assert same("a", "a") and not same("a", "b")
    assert not same("", "") and not same(None, None) and not same(None, "a")
