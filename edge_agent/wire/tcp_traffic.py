"""What the kernel counted on the TCP connections of a link, retransmissions left out.

Linux keeps both counters in `struct tcp_info` (linux/tcp.h, since 4.2): `tcpi_bytes_acked` at offset 120, which counts
the SYN of the connecting side as one byte, and `tcpi_bytes_received` at offset 128.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

from .link import Traffic

_COUNTERS = struct.Struct("=QQ")
_COUNTERS_OFFSET = 120
_SYN_BYTES = 1


class TcpTraffic:
    """Sums over connections, one open at a time; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._past: Traffic | None = Traffic(0, 0)
        self._open: socket.socket | None = None

    def opened(self, connection: socket.socket) -> None:
        """Counts `connection` from now on."""
        with self._lock:
            self._open = connection

    def closing(self) -> None:
        """Takes the last reading; the connection must still be open."""
        with self._lock:
            self._past = self._sum()
            self._open = None

    def total(self) -> Traffic | None:
        """Bytes over all connections; None, for good, once the system did not tell for one of them."""
        with self._lock:
            return self._sum()

    def _sum(self) -> Traffic | None:
        if self._past is None or self._open is None:
            return self._past
        present = tcp_traffic(self._open)
        if present is None:
            return None
        return Traffic(self._past.bytes_up + present.bytes_up, self._past.bytes_down + present.bytes_down)


def tcp_traffic(connection: socket.socket) -> Traffic | None:
    """Bytes that the peer acknowledged and bytes received, for the connecting side; None where nobody counts."""
    if sys.platform != "linux":
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _COUNTERS_OFFSET + _COUNTERS.size)
    except OSError:
        return None
    if len(info) < _COUNTERS_OFFSET + _COUNTERS.size:
        return None
    acknowledged_bytes, received_bytes = _COUNTERS.unpack_from(info, _COUNTERS_OFFSET)
    return Traffic(max(0, acknowledged_bytes - _SYN_BYTES), received_bytes)
