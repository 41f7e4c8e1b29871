"""Tokens with which a fleet is administered over the network: shown once when they are made, kept as hashes only.

A token has 256 bits of randomness, so that one round of SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from .folder import FleetFolder, read

PREFIX = "rfa_"
"""So that whoever finds one in a log knows what it is."""
TOKEN_BYTES = 32


def make() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> str:
    """What is kept of `token`: SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def keep(folder: FleetFolder, token: str) -> None:
    """Adds the hash of `token` to those of the fleet."""
    folder.write(folder.admin_tokens, "".join(f"{one}\n" for one in [*kept(folder), digest(token)]).encode())


def kept(folder: FleetFolder) -> list[str]:
    """The hashes of all tokens of the fleet."""
    return (read(folder.admin_tokens) or b"").decode("ascii", errors="replace").split()


def is_valid(folder: FleetFolder, token: str) -> bool:
    """Whether `token` is one of the fleet's. It takes as long whichever it is, and whether it is one or not."""
    offered = digest(token)
    found = False
    for one in kept(folder):
        found |= hmac.compare_digest(one.encode(), offered.encode())
    return found
