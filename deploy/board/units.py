"""The systemd units of a board, rendered from its agent's configuration.

**Limits of memory.** The trainer keeps the budget itself, and steps down before it exceeds it; the kernel's limits
stand behind that, for faults. The control group is charged for more than the budget bounds (docs/memory.md), so

- `MemoryHigh`, from which on the kernel takes pages back, is the budget and `FILES_BYTES`: pages of libraries and of
  the pack that processes map, and what the kernel needs for page tables and sockets. Most of it can be read again, so
  less would be slow, not wrong;
- `MemoryMax`, beyond which something is killed, is an eighth of the budget (`LEAST_SLACK_BYTES` at least) more: what a
  step may allocate before the trainer looks at its memory again.

Without a budget in the configuration it is half of what is available at each start; the limits are then shares of the
board's memory.

**Hardening** leaves out what the agent needs: `ProcSubset=pid` would hide `/proc/meminfo` and `/proc/pressure`, and the
broker's address is a name, for which systemd has no filter.
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.wire.errors import ConfigError

MIB = 2**20
FILES_BYTES = 96 * MIB
LEAST_SLACK_BYTES = 32 * MIB
WATCHDOG_S = 180
"""Longer than anything that the supervisor waits for in one turn: checking a pack of 500 MB on a slow card takes 30 s,
and a database that another process holds is waited for for 30 s."""
AGENT, UPDATE = "rankfleet-agent.service", "rankfleet-update.service"
TIMER = "rankfleet-update.timer"
USER = "rankfleet"
RELEASE = Path("/opt/rankfleet/current")
FOLDER = Path("etc/systemd/system")
_STATE_ROOT = Path("/var/lib")
_HOMES = ("/home", "/root", "/run/user")

_AGENT = """\
[Unit]
Description=rankfleet agent {device}{of_fleet}
Wants=network-online.target
After=network-online.target time-sync.target
# A gateway may be away for days: it is tried again for ever.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={release}/bin/rankfleet agent run {config}
ExecReload=/bin/kill -HUP $MAINPID
User={user}
Group={user}
Restart=always
RestartSec=30
# Of an agent that was asked to stop.
SuccessExitStatus=130
WatchdogSec={watchdog_s}
TimeoutStartSec=120
TimeoutStopSec=30
Nice=10

{limits}
# The trainer's death does not stop the agent, which starts it again or says what the device needs.
OOMPolicy=continue
# Before the board's own services.
OOMScoreAdjust=500

{state}
{home}
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateMounts=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# Libraries that place their threads on cores are refused, not killed.
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
_UPDATE = """\
[Unit]
Description=rankfleet: renew the certificate and install releases for {device}
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Type=oneshot
ExecStart={release}/bin/rankfleet agent update {config}
TimeoutStartSec=2h
Nice=10
UMask=0022
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
"""
_TIMER = """\
[Unit]
Description=rankfleet: look for orders of the gateway

[Timer]
OnBootSec=2min
OnUnitInactiveSec=10min
RandomizedDelaySec=2min

[Install]
WantedBy=timers.target
"""


def render(settings: AgentConfig, config: Path, release: Path = RELEASE, user: str = USER) -> dict[str, str]:
    """The text of each unit by its name; `config` is the file that `settings` came from.

    Raises:
        ConfigError: a path that a unit file cannot hold.
    """
    words = {
        "device": settings.device,
        "of_fleet": f" of fleet {settings.fleet}" if settings.fleet else "",
        "release": _path(release),
        "config": _path(config.absolute()),
        "user": user,
        "watchdog_s": WATCHDOG_S,
        "limits": limits(settings.memory.budget_bytes),
        "state": _state(settings.state_dir),
        "home": _home(settings, config),
    }
    return {AGENT: _AGENT.format(**words), UPDATE: _UPDATE.format(**words), TIMER: _TIMER}


def limits(budget_bytes: int | None) -> str:
    """`MemoryHigh` and `MemoryMax` for a budget; see above."""
    if budget_bytes is None:
        return "MemoryHigh=75%\nMemoryMax=85%"
    high_bytes = budget_bytes + FILES_BYTES
    return f"MemoryHigh={high_bytes}\nMemoryMax={high_bytes + max(LEAST_SLACK_BYTES, budget_bytes // 8)}"


def _state(folder: Path) -> str:
    """Where the agent may write. Below /var/lib systemd makes it."""
    if folder.is_relative_to(_STATE_ROOT) and folder != _STATE_ROOT:
        return f"StateDirectory={_path(folder.relative_to(_STATE_ROOT))}\nStateDirectoryMode=0700"
    return f"ReadWritePaths={_path(folder)}"


def _home(settings: AgentConfig, config: Path) -> str:
    """Home folders are out of sight, unless something of the agent's lies there."""
    used = (settings.data, settings.state_dir, config.absolute())
    there = any(path.is_relative_to(home) for path in used for home in _HOMES)
    return "ProtectHome=read-only" if there else "ProtectHome=yes"


def _path(path: Path) -> str:
    text = str(path)
    if any(letter.isspace() or letter in "%$\"'\\;" for letter in text):
        raise ConfigError(
            f"a unit cannot name {text!r}: use a path without spaces, quotes, '%', '$', ';' and backslashes"
        )
    return text
