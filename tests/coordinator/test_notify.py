"""A webhook with a real HTTP server."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from coordinator import notify
from coordinator.notify import Webhook


class Listener:
    """An HTTP server on loopback; `bodies` is what was posted to it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                listener.gate.wait(10)
                listener.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(listener.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.gate.set()
    one.server.shutdown()
    one.server.server_close()


def test_events_arrive_in_their_order(listener: Listener) -> None:
    webhook = Webhook(listener.url)
    for number in range(5):
        webhook.post(json.dumps({"number": number}).encode())
    webhook.close()
    assert [json.loads(body)["number"] for body in listener.bodies] == [0, 1, 2, 3, 4]


def test_a_refusal_is_logged_and_the_next_event_is_posted(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    listener.status = 500
    webhook = Webhook(listener.url)
    with caplog.at_level(logging.WARNING):
        webhook.post(b"{}")
        webhook.post(b"{}")
        webhook.close()
    assert len(listener.bodies) == 2
    assert caplog.text.count("did not take an event") == 2


def test_nobody_there_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    webhook = Webhook("http://127.0.0.1:9/nothing")
    with caplog.at_level(logging.WARNING):
        webhook.post(b"{}")
        webhook.close()
    assert "did not take an event" in caplog.text


def test_a_webhook_that_hangs_holds_up_nobody(
    listener: Listener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.2)
    listener.gate.clear()
    webhook = Webhook(listener.url)
    with caplog.at_level(logging.WARNING):
        for _ in range(notify.WAITING_AT_MOST + 5):
            webhook.post(b"{}")
    assert "too slow" in caplog.text
    listener.gate.set()
    webhook.close()
