"""Tells systemd how the gateway is (sd_notify(3)); does nothing where nobody asked for it."""

from __future__ import annotations

import os
import socket

NOTIFY_SOCKET = "NOTIFY_SOCKET"


def tell(state: str) -> None:
    """Sends `state`, for example `READY=1`, to the socket that `NOTIFY_SOCKET` names."""
    address = os.environ.get(NOTIFY_SOCKET)
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        one.connect(address)
        one.sendall(state.encode())
