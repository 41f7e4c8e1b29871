"""Debian's Chromium, driven by Playwright, and what a page must never do in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from profiling.page.measure import CHROMIUM

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
SCREENSHOTS = "RANKFLEET_SCREENSHOTS"
"""The folder that screenshots go to; without it there are none."""
SERIOUS = frozenset({"serious", "critical"})
PATIENCE_MS = 60_000
EXPECTED_ERRORS = ("Failed to load resource",)
"""Chromium says so of every answer that is an error, as that to a wrong token is."""


@dataclass
class Watched:
    """A page in a context of its own; whom it asked, and what went wrong in it."""

    page: Any
    asked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def require_browser() -> tuple[Any, str]:
    """Playwright's entry and Chromium's path; skips the test, loudly, where one is missing."""
    path = next((found for found in map(shutil.which, CHROMIUM) if found), None)
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415
    except ImportError:
        path = None
    if path is None:
        reason = "the live page is not tested in a browser here: apt install chromium, pip install playwright"
        warnings.warn(reason, stacklevel=2)
        pytest.skip(reason)
    return sync_playwright, path


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    entry, path = require_browser()
    with entry() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield launched
        finally:
            launched.close()


@contextlib.contextmanager
def watched(launched: Any, **settings: Any) -> Iterator[Watched]:
    """A new page; at the end nothing may have gone wrong in it."""
    context = launched.new_context(**{"viewport": {"width": 1100, "height": 760}, "locale": "en-GB", **settings})
    one = Watched(context.new_page())
    one.page.set_default_timeout(PATIENCE_MS)
    one.page.on("request", lambda request: one.asked.append(request.url))
    one.page.on("pageerror", lambda error: one.problems.append(str(error)))
    one.page.on("console", lambda line: line.type == "error" and one.problems.append(line.text))
    try:
        yield one
        found = [text for text in one.problems if not text.startswith(EXPECTED_ERRORS)]
        assert not found, found
    finally:
        context.close()


def accessibility(page: Any) -> list[str]:
    """What axe-core finds that is serious, in the page as it is now."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"], "axe-core looked at nothing"
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:5]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]


def screenshot(page: Any, name: str, *, whole: bool = False) -> None:
    """A picture for the documentation, where one is asked for: of what is seen, or of the whole page."""
    folder = os.environ.get(SCREENSHOTS)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=whole)
