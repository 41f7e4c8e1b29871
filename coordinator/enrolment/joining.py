"""Who may ask to be let in: the rules for tokens, names and keys, without I/O.

A token admits one request, before it runs out. The same key that asks again with the same token is the same request,
whenever it asks: a board that was cut off before it heard the answer is not locked out. A name belongs to its key,
until it is revoked or a token was made for that name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import NamedTuple

from coordinator.enrolment.registry import Device, Request, Token
from edge_agent.wire import topics
from edge_agent.wire.errors import ConfigError, EnrolmentError

FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409
LEAST_LIFETIME_LEFT = 1 / 3
"""Share of its lifetime that a certificate has left when it is renewed."""
_ANOTHER = "ask for another one (rankfleet coordinator token FOLDER)"
_FINGERPRINT_DIGITS = 64


class Name(NamedTuple):
    """A name on the list of pre-approved ones; `fingerprint` is its key's, or empty for any."""

    device: str
    fingerprint: str


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def find_token(tokens: Iterable[Token], text: str) -> Token:
    """The token that `text` is. Every one is compared, each in constant time.

    Raises:
        EnrolmentError: there is none.
    """
    digest, found = digest_of(text), None
    for token in tokens:
        if hmac.compare_digest(token.sha256, digest):
            found = token
    if found is None:
        raise EnrolmentError(f"this fleet knows no such token: {_ANOTHER}", FORBIDDEN)
    return found


def repeated(token: Token, used_by: Request | None, device: str, fingerprint: str) -> Request | None:
    """`used_by`, the request that used the token up, if this is the same once more; None if the token is unused.

    Raises:
        EnrolmentError: another request used it up, or it is for another name.
    """
    if token.device not in (None, device):
        raise EnrolmentError(f"this token is for the device {token.device}, not for {device}: {_ANOTHER}", FORBIDDEN)
    if token.request is None:
        return None
    if used_by is not None and (used_by.device, used_by.fingerprint) == (device, fingerprint):
        return used_by
    raise EnrolmentError(f"this token was used before, by another board or key: {_ANOTHER}", FORBIDDEN)


def check_unused(token: Token, now_s: int) -> None:
    """Raises EnrolmentError: the token has run out."""
    if now_s >= token.expires_s:
        raise EnrolmentError(f"this token ran out {now_s - token.expires_s} s ago: {_ANOTHER}", FORBIDDEN)


def check_key(device: str, owner: str | None) -> None:
    """Whether the name may have the key; `owner` is the name that a certificate for it was issued to.

    Raises:
        EnrolmentError: it is another's.
    """
    if owner is not None and owner != device:
        raise EnrolmentError(
            f"this key is that of the device {owner}: boards made from one image share it. Delete the identity folder "
            "on this board and join again",
            CONFLICT,
        )


def check_name(token: Token, device: str, fingerprint: str, holder: Device | None) -> None:
    """Whether the key may have the name; `holder` is the device that has it.

    Raises:
        EnrolmentError: it has another key.
    """
    taken = holder is not None and not holder.revoked and holder.fingerprint != fingerprint
    if taken and token.device != device:
        raise EnrolmentError(
            f"the fleet has a device {device} with another key: choose another name; or, if this is the same board, "
            f"revoke {device} or make a token for it (rankfleet coordinator token FOLDER --device {device})",
            CONFLICT,
        )


def is_renewal_due(issued_s: int, not_after_s: int, rotate_s: int, now_s: int) -> bool:
    """Whether a certificate is to be replaced: a third of its lifetime is left, or somebody asked for it."""
    return rotate_s > 0 or not_after_s - now_s < (not_after_s - issued_s) * LEAST_LIFETIME_LEFT


def read_names(text: str) -> list[Name]:
    """Pre-approved names: one a line, perhaps with the fingerprint of its key behind it; `#` begins a comment.

    Raises:
        ConfigError: a line is something else; names it.
    """
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        topics.check_name(words[0], f"line {number}")
        fingerprint = "".join(words[1:]).lower()
        if len(words) > 2 or (fingerprint and not _is_fingerprint(fingerprint)):
            raise ConfigError(
                f"line {number}: expected a name, and perhaps a fingerprint of {_FINGERPRINT_DIGITS} hexadecimal "
                f"digits, got {line.strip()!r}"
            )
        names.append(Name(words[0], fingerprint))
    return names


def _is_fingerprint(text: str) -> bool:
    return len(text) == _FINGERPRINT_DIGITS and not set(text) - set("0123456789abcdef")
