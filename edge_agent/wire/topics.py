"""Topic names. Everything of one device lies under one prefix, so that one ACL pattern a device is enough.

::

    rankfleet/<fleet>/<device>/up      agent -> coordinator
    rankfleet/<fleet>/<device>/down    coordinator -> agent
    rankfleet/<fleet>/coordinator/events    service levels, for whoever listens

With the device's name as its MQTT user name, the ACL is `pattern readwrite rankfleet/+/%u/#`.
"""

from __future__ import annotations

import re

from .errors import ConfigError

ROOT = "rankfleet"
UP = "up"
DOWN = "down"
EVENTS = "events"
COORDINATOR = "coordinator"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check_name(name: str, what: str) -> str:
    """`name` if it can stand in a topic and in an ACL, and is not reserved.

    Raises:
        ConfigError: with `what` was being named.
    """
    if not is_name(name):
        raise ConfigError(
            f"{what} must be 1 to 64 letters, digits, '.', '_' or '-', and not '{COORDINATOR}'; got {name!r}"
        )
    return name


def is_name(name: str) -> bool:
    """Whether `check_name` takes `name`."""
    return bool(_NAME.fullmatch(name)) and name != COORDINATOR


def up(fleet: str, device: str) -> str:
    """Topic on which `device` speaks."""
    return f"{ROOT}/{fleet}/{device}/{UP}"


def down(fleet: str, device: str) -> str:
    """Topic on which `device` listens."""
    return f"{ROOT}/{fleet}/{device}/{DOWN}"


def events(fleet: str) -> str:
    """Topic on which the coordinator tells of its service levels, as JSON."""
    return f"{ROOT}/{fleet}/{COORDINATOR}/{EVENTS}"


def every_up(fleet: str) -> str:
    """Subscription of the coordinator: what all devices say."""
    return f"{ROOT}/{fleet}/+/{UP}"


def device_of(topic: str) -> str:
    """The device that a topic belongs to."""
    return topic.split("/")[2]
