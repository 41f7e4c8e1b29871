"""Tells another system of an event: an HTTP POST of JSON, by a thread of its own.

A webhook that does not answer never holds up a round: what it cannot take in time is dropped and said in the log.
"""

from __future__ import annotations

import logging
import queue
import threading
import urllib.error
import urllib.request

LOGGER = logging.getLogger("rankfleet.coordinator")
TIMEOUT_S = 10.0
WAITING_AT_MOST = 100
"""Events that wait for a webhook which is slow or away."""
_END = b""


class Webhook:
    """Posts to `url` until it is closed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: queue.Queue[bytes] = queue.Queue(WAITING_AT_MOST)
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def post(self, body: bytes) -> None:
        """Takes `body` (JSON) to be posted; returns at once."""
        try:
            self._waiting.put_nowait(body)
        except queue.Full:
            LOGGER.warning("the webhook %s is too slow: an event was dropped", self._url)

    def close(self) -> None:
        """Posts what waits, as far as that takes no longer than one post may."""
        try:
            self._waiting.put(_END, timeout=TIMEOUT_S)
        except queue.Full:
            return
        self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        while (body := self._waiting.get()) != _END:
            try:
                self._send(body)
            except (OSError, ValueError) as error:  # urllib's own errors are OSErrors; a URL may be none
                LOGGER.warning("the webhook %s did not take an event: %s", self._url, error)

    def _send(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass
