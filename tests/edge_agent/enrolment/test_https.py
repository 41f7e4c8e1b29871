"""What a board makes of answers that are none."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import urllib.error
from email.message import Message
from pathlib import Path

import pytest

from edge_agent.enrolment import https
from edge_agent.wire.errors import ConfigError
from tests.coordinator.enrolment.gates import HOST, gate


def test_a_gateway_refuses_in_its_own_words(tmp_path: Path) -> None:
    with gate(tmp_path) as site, pytest.raises(urllib.error.HTTPError) as refused:
        https.opener(site.ca).open(f"{site.url}/v1/requests/0", timeout=20)
    assert https.said(refused.value).startswith("this gateway has no such request")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[" * 9999, b'"words"', b"{}", b"\xff"])
def test_who_has_no_words_is_not_quoted(body: bytes) -> None:
    assert https.said(urllib.error.HTTPError("https://gw", 500, "no", Message(), io.BytesIO(body))) == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "check the network and the gateway's firewall"),
        (ConnectionRefusedError(), "does `rankfleet coordinator up` run"),
        (socket.gaierror(-2, "unknown"), "check the name"),
        (http.client.BadStatusLine("x"), "whether the gateway runs"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(error: Exception, words: str, tmp_path: Path) -> None:
    assert words in https.reason(error, tmp_path)


def test_a_server_without_tls_is_no_gateway(tmp_path: Path) -> None:
    with gate(tmp_path) as site, socket.create_server((HOST, 0)) as plain:
        threading.Thread(target=_answer_plainly, args=(plain,), daemon=True).start()
        with pytest.raises(urllib.error.URLError) as failed:
            https.opener(site.ca).open(f"https://{HOST}:{plain.getsockname()[1]}", timeout=20)
    assert isinstance(failed.value.reason, OSError)
    assert "is it a gateway of rankfleet" in https.reason(failed.value.reason, site.ca)


def _answer_plainly(listening: socket.socket) -> None:
    with listening.accept()[0] as connection:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        https.opener(tmp_path / "nowhere")
