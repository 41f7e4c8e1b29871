"""The dates of the agent's certificates, as the `openssl` program reads them, and who may read its key."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from edge_agent.doctor.clock import told_date
from edge_agent.doctor.finding import Finding
from edge_agent.wire.settings import BrokerSettings

CHECK = "certificates"
SOON_S = 14 * 24 * 3600.0
ANSWER_S = 30.0
_JOIN = "Join the fleet again: `rankfleet agent join`, or the gateway's line for new boards."


def certificates(broker: BrokerSettings, now_s: float, bound_s: float) -> Finding:
    """Both certificates at `now_s`, seconds of Unix time, or at `bound_s` where that is later: it cannot be earlier."""
    if broker.ca_file is None:
        remedy = "Anybody between here and the broker can read along: set broker.ca_file, or join an enrolled fleet."
        return Finding(CHECK, "warning", "none, the connection is not encrypted", remedy)
    latest_s, ends = max(now_s, bound_s), []
    for path in (broker.ca_file, broker.certificate_file):
        if path is None:
            continue
        try:
            begins_s, ends_s = _dates(path)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return Finding(CHECK, "failure", f"{path} cannot be read: {_why(error)}", _JOIN)
        if begins_s > latest_s:
            remedy = "Set the clock: let the board reach a time server (timedatectl set-ntp true)."
            return Finding(CHECK, "failure", f"{path} is valid from {told_date(begins_s)} on", remedy)
        if ends_s < latest_s:
            return Finding(CHECK, "failure", f"{path} was valid until {told_date(ends_s)}", _JOIN)
        ends.append((ends_s, path))
    return _key(broker) or _remaining(ends, latest_s)


def _remaining(ends: list[tuple[float, Path]], latest_s: float) -> Finding:
    ends_s, path = min(ends)
    found = f"valid until {told_date(ends_s)} ({path.name} first)"
    if ends_s - latest_s < SOON_S:
        remedy = "It is renewed by itself while the gateway is in reach: see `systemctl status rankfleet-update.timer`."
        return Finding(CHECK, "warning", found, remedy)
    return Finding(CHECK, "ok", found)


def _key(broker: BrokerSettings) -> Finding | None:
    """What is wrong with the key."""
    if broker.key_file is None:
        return None
    try:
        mode = broker.key_file.stat().st_mode
        broker.key_file.open("rb").close()
    except OSError as error:
        return Finding(CHECK, "failure", f"{broker.key_file} cannot be read: {error.strerror}", _JOIN)
    if mode & 0o077:
        found = f"{broker.key_file} can be read by others than its owner (mode {mode & 0o777:04o})"
        return Finding(CHECK, "warning", found, f"chmod 0600 {broker.key_file}")
    return None


def _dates(path: Path) -> tuple[float, float]:
    """From when to when it is valid, in seconds of Unix time. Raises also ValueError and SubprocessError."""
    path.open("rb").close()  # whose error tells more than openssl's
    command = ["openssl", "x509", "-noout", "-startdate", "-enddate", "-in", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    dates = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return ssl.cert_time_to_seconds(dates["notBefore"]), ssl.cert_time_to_seconds(dates["notAfter"])


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return "no openssl program: sudo apt install openssl" if error.filename == "openssl" else str(error.strerror)
    if isinstance(error, subprocess.CalledProcessError):
        return "it is no certificate in PEM form"
    return str(error)
