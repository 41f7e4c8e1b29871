"""`rankfleet agent join` and `renew`: a board's membership of a fleet."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.cli.options import minimum

_JOIN = """\
Asks the gateway to let this board into the fleet, and waits until it is approved there. The key is made here and stays
here. Started again after whatever interrupted it, it goes on with the same key and request; on a board that is a
member already, it does nothing. Gateway, CA, name and folder come from CONFIG, or from the options.
"""
_RENEW = """\
Gets this board a certificate for a new key, if a third of the old one's lifetime is left or the gateway orders it;
otherwise it does nothing. An agent may be running: it takes up the new one at its next connection.
"""
_WAIT_S = 3600


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommands to those of `rankfleet agent`."""
    joining = commands.add_parser("join", help="ask to be let into a fleet", description=_JOIN)
    joining.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="TOML file; see docs/configuration.md")
    joining.add_argument("--token", metavar="TOKEN", help="from `rankfleet coordinator token` on the gateway")
    joining.add_argument("--gateway", metavar="URL", help="https://HOST:PORT (gateway.url)")
    joining.add_argument("--ca", type=Path, metavar="FILE", help="the fleet's CA certificate (broker.ca_file)")
    joining.add_argument("--device", metavar="NAME", help="this board's name in the fleet (device)")
    joining.add_argument("--identity", type=Path, metavar="DIR", help="folder of key and certificate")
    joining.add_argument(
        "--wait-s", type=minimum(0), default=_WAIT_S, metavar="N", help=f"seconds to wait for approval ({_WAIT_S})"
    )
    joining.set_defaults(run=join)
    renewal = commands.add_parser("renew", help="renew this board's certificate if it is time", description=_RENEW)
    renewal.add_argument("config", type=Path, metavar="CONFIG", help="TOML file; see docs/configuration.md")
    renewal.set_defaults(run=renew)


def join(args: argparse.Namespace) -> int:
    """Returns when this board is a member. Raises as `edge_agent.enrolment.join.join`."""
    from edge_agent.enrolment import join as joining  # noqa: PLC0415 (a help text needs none of it)
    from edge_agent.wire.errors import ConfigError  # noqa: PLC0415

    gateway, ca, device, identity = args.gateway, args.ca, args.device, args.identity
    if args.config is not None:
        url, ca_file, folder, name = _configured(args.config)
        gateway, ca, device, identity = gateway or url, ca or ca_file, device or name, identity or folder
    missing = [
        option
        for option, value in (("gateway", gateway), ("ca", ca), ("device", device), ("identity", identity))
        if value is None
    ]
    if missing:
        raise ConfigError(f"to join, give a CONFIG with [gateway] and [broker], or --{' and --'.join(missing)}")
    wish = joining.Wish(gateway, ca, device, identity.absolute(), args.token)
    joining.join(wish, _say, args.wait_s)
    return 0


def renew(args: argparse.Namespace) -> int:
    """Renews the certificate if it is time. Raises as `edge_agent.enrolment.renew.renew`."""
    from edge_agent.enrolment import renew as renewal  # noqa: PLC0415

    url, ca_file, folder, _name = _configured(args.config)
    renewal.renew(url, ca_file, folder, _say)
    return 0


def _configured(path: Path) -> tuple[str, Path, Path, str]:
    """URL of the gateway, its CA, the identity folder, and the device's name, as a configuration has them."""
    from edge_agent import config  # noqa: PLC0415
    from edge_agent.enrolment.keys import Identity  # noqa: PLC0415
    from edge_agent.wire.errors import ConfigError  # noqa: PLC0415

    settings = config.load(path)
    broker, url = settings.broker, settings.gateway.url
    if not url or broker.ca_file is None or broker.certificate_file is None or broker.key_file is None:
        raise ConfigError(
            f"{path} must name the gateway (gateway.url) and broker.ca_file, certificate_file and key_file; see "
            "docs/configuration.md"
        )
    return url, broker.ca_file, Identity.of(broker.certificate_file, broker.key_file).folder, settings.device


def _say(line: str) -> None:
    print(line, flush=True)
