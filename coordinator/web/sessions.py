"""Who is logged in: sessions in memory, so that a restart of the gateway ends them all.

A session is the bearer's who has its cookie, and ends with the admin token that opened it. Of the cookie only a hash is
kept. Every change also needs the session's other token, which the page has and another site cannot read.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

IDLE_S = 3600.0
LONGEST_S = 12 * 3600.0
MOST_SESSIONS = 256
_BYTES = 32


@dataclass(frozen=True)
class Session:
    """`csrf` is what a change must show; `token_digest` the hash of the admin token. Times are monotonic seconds."""

    csrf: str
    token_digest: str
    begun_s: float
    seen_s: float


class Sessions:
    """`is_kept` says whether the hash of an admin token is still one of the fleet's. Any thread may ask."""

    def __init__(self, is_kept: Callable[[str], bool], clock: Callable[[], float]) -> None:
        self._is_kept = is_kept
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def begin(self, token_digest: str) -> str:
        """A new session for whoever showed a token; returns the cookie. The one that is idle longest goes first."""
        cookie, now_s = secrets.token_urlsafe(_BYTES), self._clock()
        with self._lock:
            if len(self._sessions) >= MOST_SESSIONS:
                del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].seen_s)]
            self._sessions[_hash(cookie)] = Session(secrets.token_urlsafe(_BYTES), token_digest, now_s, now_s)
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """The session of a cookie, which was used now; None where it has ended."""
        if not cookie:
            return None
        key, now_s = _hash(cookie), self._clock()
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            over = now_s - session.seen_s >= IDLE_S or now_s - session.begun_s >= LONGEST_S
            if over or not self._is_kept(session.token_digest):
                del self._sessions[key]
                return None
            self._sessions[key] = replace(session, seen_s=now_s)
            return session

    def end(self, cookie: str | None) -> None:
        """Logs out."""
        if cookie:
            with self._lock:
                self._sessions.pop(_hash(cookie), None)


def new_token() -> str:
    """Something that nobody can guess."""
    return secrets.token_urlsafe(_BYTES)


def same(shown: str | None, expected: str | None) -> bool:
    """Whether two secrets are one, in a time that does not tell where they differ. What is missing is not the same."""
    if not shown or not expected:
        return False
    return hmac.compare_digest(shown.encode(), expected.encode())


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
