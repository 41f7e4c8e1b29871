"""A board gets itself a certificate for a new key before its own ends, or when the gateway orders it.

The agent may be running: it takes up the new pair at its next connection to the broker. The gateway withdraws the old
one when the new one is used, which is done here at once; a board that dies in between does it the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_agent.enrolment import dates, files, keys, openssl
from edge_agent.enrolment.client import CONFLICT, Gateway
from edge_agent.wire import durable
from edge_agent.wire.errors import EnrolmentError
from edge_agent.wire.folder_lock import LOCK, only_one

LEAST_LIFETIME_LEFT = 1 / 3
"""Share of its lifetime that a certificate has left when it is renewed."""
Say = Callable[[str], object]


def renew(url: str, ca: Path, folder: Path, say: Say) -> bool:
    """Renews if it is time to; whether it was.

    Raises:
        EnrolmentError: this board has not joined, or the gateway refuses or cannot be reached.
        StoreError: the identity folder cannot be written.
    """
    files.make_folder(folder)
    with only_one(folder, "rankfleet agent join or renew"):
        durable.give(folder / LOCK)
        return _renew(url, ca, keys.Identity(folder), say)


def _renew(url: str, ca: Path, identity: keys.Identity, say: Say) -> bool:
    identity.settle()
    pair = identity.current()
    if pair is None:
        raise EnrolmentError(f"this board is no member of a fleet yet ({identity.folder}): rankfleet agent join", 0)
    gateway = _with(url, ca, identity, pair)
    ordered = gateway.ask("/v1/orders").get("renew") is True
    begins_s, ends_s = openssl.certificate_dates(pair.certificate)
    dates.note(identity.folder, begins_s)
    if not ordered and ends_s - dates.now_s(identity.folder) >= (ends_s - begins_s) * LEAST_LIFETIME_LEFT:
        say(f"the certificate is valid until {dates.show(ends_s)}: nothing to do")
        return False
    new, certificate = _ask(gateway, identity)
    identity.switch(new, certificate)
    _with(url, ca, identity, new).ask("/v1/orders")
    identity.settle()
    say(f"renewed; the new certificate is valid until {dates.show(openssl.certificate_dates(new.certificate)[1])}")
    return True


def _ask(gateway: Gateway, identity: keys.Identity) -> tuple[keys.Pair, bytes]:
    """A pair, and the certificate for its key, PEM. A key of an earlier try may have been given up by the gateway."""
    pair = identity.next()
    try:
        return pair, _certificate(gateway, pair)
    except EnrolmentError as error:
        if error.status != CONFLICT:
            raise
    keys.drop(pair)
    pair = identity.next()
    return pair, _certificate(gateway, pair)


def _certificate(gateway: Gateway, pair: keys.Pair) -> bytes:
    request = openssl.make_request(pair.key, "renewal").decode("ascii")
    found = gateway.ask("/v1/renewals", {"request": request}).get("certificate")
    if not isinstance(found, str):
        raise EnrolmentError("the gateway's answer is not one to a renewal: update the gateway, or this board", 0)
    return found.encode()


def _with(url: str, ca: Path, identity: keys.Identity, pair: keys.Pair) -> Gateway:
    return Gateway(url, ca, identity.folder, pair.certificate, pair.key)
