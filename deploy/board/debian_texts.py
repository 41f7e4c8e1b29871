"""What a Debian package says of itself: its changelog, and whose works it carries under which licences."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from datetime import datetime, timezone
from email.utils import format_datetime
from importlib.metadata import Distribution
from pathlib import PurePosixPath

from edge_agent.wire.errors import ConfigError

_WIDTH = 78
_LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
_HEAD = """\
rankfleet fine-tunes language models on fleets of small boards.

Copyright {year} the authors of rankfleet
License: Apache-2.0; its text is in /usr/share/common-licenses/Apache-2.0

Beside it, this package carries the following works as their authors publish
them on the Python Package Index, unchanged. Each has its own licence:
"""


def changelog(text: str, version: str, package: tuple[str, str], maintainer: str, date_s: int) -> str:
    """Debian's form of a version's part of a changelog in Markdown.

    Args:
        text: the Markdown: `## VERSION ...`, then a list.
        version: whose part.
        package: its name and Debian version.
        maintainer: as `Name <address>`.
        date_s: of the entry, in seconds since 1970.

    Raises:
        ConfigError: the version has no part, or nothing in it.
    """
    found = re.search(rf"^## {re.escape(version)}(?!\S)[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    entries = re.split(r"^- ", found.group(1), flags=re.MULTILINE)[1:] if found else []
    if not entries:
        raise ConfigError(f"the changelog has no entries for {version}: write what is new below '## {version}'")
    date = format_datetime(datetime.fromtimestamp(date_s, timezone.utc))
    changes = "\n".join(_change(entry) for entry in entries)
    return f"{package[0]} ({package[1]}) stable; urgency=medium\n\n{changes}\n\n -- {maintainer}  {date}\n"


def _change(entry: str) -> str:
    return textwrap.fill(
        " ".join(entry.split()), _WIDTH, initial_indent="  * ", subsequent_indent="    ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def copyright_notice(carried: Sequence[Distribution], folder: PurePosixPath, year: int) -> str:
    """The notice for a package that carries the distributions `carried` below `folder`, rankfleet of `year` among them.

    Raises:
        ConfigError: a distribution does not say what its licence is.
    """
    others = [one for one in carried if one.metadata["Name"] != "rankfleet"]
    return "\n".join([_HEAD.format(year=year), *(_licence(one, folder) for one in others)])


def _licence(one: Distribution, folder: PurePosixPath) -> str:
    name = f"{one.metadata['Name']} {one.version}"
    texts = sorted(str(path) for path in one.files or [] if _LICENCE_FILE.search(path.name) and path.suffix != ".py")
    where = "".join(f"    {folder / path}\n" for path in texts)
    return f"{name}: {_licence_name(one)}\n{where}"


def _licence_name(one: Distribution) -> str:
    """As the distribution's metadata has it: an SPDX expression, a classifier, or the field that came before."""
    values = one.metadata.get_all("License-Expression") or [
        text.rpartition(" :: ")[2] for text in one.metadata.get_all("Classifier") or [] if text.startswith("License ::")
    ]
    values = values or [text.splitlines()[0] for text in one.metadata.get_all("License") or [] if text.strip()]
    if not values:
        raise ConfigError(f"{one.metadata['Name']} {one.version} names no licence: a package cannot carry it")
    return ", ".join(values)
