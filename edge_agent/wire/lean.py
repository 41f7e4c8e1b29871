"""What the resident supervisor leaves out of memory: parts of libraries that it never comes to use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

DISTRIBUTION = "rankfleet"


@contextmanager
def without_proxies() -> Iterator[None]:
    """For the import of paho, which takes `urllib.request` along to look for proxies, and that the HTTP client and the
    parsers of mail: 2 MB. Paho looks for a proxy only where PySocks is installed; there nothing is left out.
    """
    if find_spec("socks") is not None:
        yield
        return
    with _left_out("urllib.request", ModuleType("urllib.request")):
        yield


@contextmanager
def without_typing_extensions() -> Iterator[None]:
    """For the import of msgspec, which prefers them to `typing`; from Python 3.11 on they have nothing more for it."""
    if sys.version_info < (3, 11):
        yield
        return
    with _left_out("typing_extensions", None):  # None: the import fails, and msgspec takes `typing`
        yield


@contextmanager
def _left_out(name: str, instead: ModuleType | None) -> Iterator[None]:
    """Meanwhile `import name` gives `instead`; afterwards the real module, as if nothing had been."""
    if name in sys.modules:
        yield
        return
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    modules[name] = instead
    try:
        yield
    finally:
        del modules[name]


def own_version() -> str:
    """The version of the installed distribution, by the name of its metadata's folder.

    Raises:
        ModuleNotFoundError: the program was not installed.
    """
    folder = metadata_folder()
    if folder is None:  # as in a wheel that is run as it is
        return importlib.import_module("importlib.metadata").version(DISTRIBUTION)
    return folder.name.removesuffix(".dist-info").removeprefix(f"{DISTRIBUTION}-")


def metadata_folder() -> Path | None:
    """Where the metadata of the installed distribution lie; None where they are in no folder.

    `importlib.metadata` reads them from within, for which it imports the parsers of mail and of archives: 1 MB.
    """
    found = (folder for entry in sys.path for folder in Path(entry).glob(f"{DISTRIBUTION}-*.dist-info"))
    return next(found, None)
