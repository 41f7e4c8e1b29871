"""The systemd unit of a gateway: its own user, no capabilities, nothing writable but the fleet folder."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.wire.errors import ConfigError

from .folder import FleetFolder

_TEXT = """\
# Written by `rankfleet coordinator init`. Changes belong in a drop-in: systemctl edit rankfleet-coordinator
[Unit]
Description=rankfleet gateway of the fleet {fleet}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
User={user}
ExecStart={command}
Restart=on-failure
RestartSec=5
TimeoutStopSec=30
KillMode=mixed
SuccessExitStatus=130
UMask=0077

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={folder}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def text(folder: FleetFolder, fleet: str, user: str, command: Sequence[str]) -> str:
    """The unit that runs `command`, the gateway of `fleet` in `folder`, as `user`.

    Raises:
        ConfigError: a path cannot stand in a unit.
    """
    words = [_word(word).replace("$", "$$") for word in command]
    return _TEXT.format(fleet=fleet, user=user, command=" ".join(words), folder=_word(str(folder.root)))


def _word(word: str) -> str:
    if any(character < " " for character in word):
        raise ConfigError(f"a path with control characters cannot stand in a systemd unit: {word!r}")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(character in word for character in " \t\"'\\;") else escaped
