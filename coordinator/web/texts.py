"""The page's texts, and its documents with the texts of a language in them."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
LANGUAGES = ("en", "ja")
_PLACE = re.compile(r"\{\{(=?)([a-z_.]+)\}\}")
_WANTED = re.compile(r"\s*([a-zA-Z-]+)\s*(?:;\s*q\s*=\s*([0-9.]+))?\s*")


def language_for(chosen: str | None, accepted: str) -> str:
    """The language that was chosen, or the first that the browser accepts (RFC 9110, 12.5.4), or English."""
    if chosen in LANGUAGES:
        return str(chosen)
    wanted = []
    for place, part in enumerate(accepted[:1000].split(",")):
        found = _WANTED.fullmatch(part)
        if found is None:
            continue
        language, weight = found[1].lower().partition("-")[0], _weight(found[2])
        if language in LANGUAGES and weight > 0:
            wanted.append((-weight, place, language))
    return min(wanted)[2] if wanted else LANGUAGES[0]


@cache
def strings(language: str) -> dict[str, str]:
    """The texts of a language by key."""
    found: dict[str, str] = json.loads((STATIC / "strings" / f"{language}.json").read_text(encoding="utf-8"))
    return found


def render(document: str, language: str, **values: str) -> str:
    """`document` with texts in place of `{{key}}` and values in place of `{{=name}}`, all of them escaped."""
    texts = strings(language)

    def put(found: re.Match[str]) -> str:
        return html.escape({**values, "language": language}[found[2]] if found[1] else texts[found[2]])

    return _PLACE.sub(put, _document(document))


@cache
def _document(name: str) -> str:
    return (STATIC.parent / "documents" / name).read_text(encoding="utf-8")


def _weight(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0
