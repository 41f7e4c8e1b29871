"""A board asks to be let into a fleet, and waits until somebody approves it.

Started again, it goes on where it was: with the same key, and the same request where the gateway has it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.enrolment import dates, files, keys, openssl
from edge_agent.enrolment.client import FORBIDDEN, NOT_FOUND, TOO_MANY, Gateway
from edge_agent.wire import durable, topics
from edge_agent.wire.errors import ConfigError, EnrolmentError
from edge_agent.wire.folder_lock import LOCK, only_one

POLL_S = 3.0
WAIT_S = 3600.0
RECORD = "joining.json"
Say = Callable[[str], object]


@dataclass(frozen=True)
class Wish:
    """Which gateway, trusted by which authority's certificate, under which name, with which token, to which folder."""

    gateway: str
    ca: Path
    device: str
    identity: Path
    token: str | None


def join(wish: Wish, say: Say, wait_s: float = WAIT_S, poll_s: float = POLL_S) -> None:
    """Returns when the board is a member; at once if it is one already.

    Raises:
        EnrolmentError: the gateway refuses, cannot be reached, or nobody approved for `wait_s` seconds.
        ConfigError: the folder is another device's, or a token is needed.
        StoreError: the folder cannot be written.
    """
    topics.check_name(wish.device, "device")
    files.make_folder(wish.identity)
    with only_one(wish.identity, "rankfleet agent join or renew"):
        durable.give(wish.identity / LOCK)
        _Joining(wish, say, poll_s).run(wait_s)


class _Joining:
    def __init__(self, wish: Wish, say: Say, poll_s: float) -> None:
        self._wish = wish
        self._say = say
        self._poll_s = poll_s
        self._identity = keys.Identity(wish.identity)
        self._gateway = Gateway(wish.gateway, wish.ca, wish.identity)

    def run(self, wait_s: float) -> None:
        self._identity.settle()
        known = self._record()
        if known.get("device") not in (None, self._wish.device):
            raise ConfigError(
                f"{self._wish.identity} is the identity of the device {known['device']}: to give this board another "
                "name, delete the folder and join again"
            )
        if self._is_member():
            self._say(f"{self._wish.device} is a member of the fleet already")
            return
        pair = self._identity.next()
        fingerprint = openssl.key_fingerprint(pair.key)
        self._say(f"device       {self._wish.device}\nfingerprint  {fingerprint}")
        answer = self._answer(pair, fingerprint, known)
        if answer["state"] == "pending":
            self._say(
                "waits for approval: compare the fingerprint, then on the gateway\n"
                f"    rankfleet coordinator approve {answer['id']} FOLDER"
            )
            answer = self._wait(str(answer["id"]), wait_s)
        self._end(pair, answer)

    def _end(self, pair: keys.Pair, answer: dict[str, Any]) -> None:
        certificate = answer.get("certificate")
        if answer["state"] != "approved" or not isinstance(certificate, str):
            (self._wish.identity / RECORD).unlink(missing_ok=True)
            raise EnrolmentError(
                f"the gateway's operator rejected this board: {answer.get('reason') or 'no reason given'}; join again "
                "with a new token where that is a mistake",
                FORBIDDEN,
            )
        self._identity.switch(pair, certificate.encode())
        if not self._is_member():
            raise EnrolmentError("the gateway does not take the certificate that it gave: join again", FORBIDDEN)
        begins_s, ends_s = openssl.certificate_dates(pair.certificate)
        dates.note(self._wish.identity, begins_s)
        self._say(f"{self._wish.device} is a member of the fleet; its certificate is valid until {dates.show(ends_s)}")

    def _is_member(self) -> bool:
        """Whether the gateway takes our certificate, if we have one."""
        pair = self._identity.current()
        if pair is None:
            return False
        known = Gateway(self._wish.gateway, self._wish.ca, self._wish.identity, pair.certificate, pair.key)
        try:
            known.ask("/v1/orders")
        except EnrolmentError as error:
            if error.status != FORBIDDEN:
                raise
            self._say(f"joins anew: {error}")
            return False
        return True

    def _answer(self, pair: keys.Pair, fingerprint: str, known: dict[str, Any]) -> dict[str, Any]:
        """To the request that is under way, or to a new one."""
        if (known.get("fingerprint"), known.get("gateway")) == (fingerprint, self._wish.gateway):
            try:
                return _checked(self._gateway.ask(f"/v1/requests/{known['id']}"))
            except EnrolmentError as error:
                if error.status != NOT_FOUND:
                    raise
        if self._wish.token is None:
            raise ConfigError("a token is needed to join: make one on the gateway (rankfleet coordinator token FOLDER)")
        request = openssl.make_request(pair.key, self._wish.device).decode("ascii")
        body = {"token": self._wish.token, "device": self._wish.device, "request": request}
        answer = _checked(self._gateway.ask("/v1/requests", body))
        record = {
            "device": self._wish.device,
            "gateway": self._wish.gateway,
            "fingerprint": fingerprint,
            "id": answer["id"],
        }
        files.write(self._wish.identity / RECORD, json.dumps(record).encode(), files.PRIVATE)
        return answer

    def _wait(self, number: str, wait_s: float) -> dict[str, Any]:
        """Asks until somebody has decided. A gateway that is away meanwhile is waited for as well."""
        deadline_s, trouble = time.monotonic() + wait_s, ""
        while time.monotonic() < deadline_s:
            time.sleep(self._poll_s)
            try:
                answer = _checked(self._gateway.ask(f"/v1/requests/{number}"))
            except EnrolmentError as error:
                if error.status not in (0, TOO_MANY) and error.status < 500:
                    raise
                if str(error) != trouble:
                    trouble = str(error)
                    self._say(f"still waits: {trouble}")
                continue
            if answer["state"] != "pending":
                return answer
        raise EnrolmentError(
            f"nobody approved this board within {wait_s:g} s: approve it on the gateway (rankfleet coordinator approve "
            f"{number} FOLDER), then start this again; it goes on without a new token",
            0,
        )

    def _record(self) -> dict[str, Any]:
        try:
            found = json.loads((self._wish.identity / RECORD).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) and isinstance(found.get("id"), str) else {}


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("state") not in ("pending", "approved", "rejected") or not isinstance(answer.get("id"), str):
        raise EnrolmentError("the gateway's answer is not one to a request: update the gateway, or this board", 0)
    return answer
