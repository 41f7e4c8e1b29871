"""The page's texts: complete in both languages, escaped, and in the language that the browser asks for."""

from __future__ import annotations

import hashlib
import re

import pytest

from coordinator.web.texts import LANGUAGES, STATIC, language_for, render, strings

PLACE = re.compile(r"\{([a-z]+)\}")


def test_both_languages_have_the_same_texts_with_the_same_places() -> None:
    english, japanese = strings("en"), strings("ja")
    assert list(english) == list(japanese)
    for key, text in english.items():
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(japanese[key])), key
        assert not text or japanese[key], key


def test_every_text_that_the_scripts_name_is_there_and_none_is_spare() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in sorted((STATIC / "js").glob("*.js")))
    documents = "".join(path.read_text(encoding="utf-8") for path in (STATIC.parent / "documents").iterdir())
    application = (STATIC.parent / "app.py").read_text(encoding="utf-8")
    named = set(re.findall(r"\"([a-z]+(?:\.[a-z_]+)+)\"", scripts)) & {*strings("en")} | {"unknown", "failed"}
    stems = set(re.findall(r"`([a-z]+\.)\$\{", scripts))
    made = {key for key in strings("en") if key.startswith(tuple(stems))}
    placed = set(re.findall(r"\{\{([a-z_.]+)\}\}", documents)) | set(re.findall(r"\"(login\.[a-z_]+)\"", application))
    assert set(re.findall(r"\bt\(\"([a-z_.]+)\"", scripts)) <= strings("en").keys()
    placed.discard("login.html")
    assert placed <= strings("en").keys()
    assert strings("en").keys() - named - made - placed == set()


@pytest.mark.parametrize(
    ("chosen", "accepted", "expected"),
    [
        (None, "ja,en-US;q=0.9", "ja"),
        (None, "en-GB,ja;q=0.9", "en"),
        (None, "de-DE,ja;q=0.3,en;q=0.2", "ja"),
        (None, "ja;q=0,en;q=0.1", "en"),
        (None, "", "en"),
        (None, "ja;q=x,;;,\x00", "en"),
        ("ja", "en", "ja"),
        ("../../etc", "en", "en"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_first_that_the_browser_takes(
    chosen: str | None, accepted: str, expected: str
) -> None:
    assert language_for(chosen, accepted) == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_stands_in_a_document_is_escaped(language: str) -> None:
    made = render("login.html", language, fleet="<b>&", other="en", csrf='"><script>', problem="")
    assert "&lt;b&gt;&amp;" in made and "&quot;&gt;&lt;script&gt;" in made
    assert "{{" not in made and f'<html lang="{language}">' in made


def test_documents_have_no_script_and_no_style_of_their_own_and_name_no_other_host() -> None:
    files = [*(STATIC.parent / "documents").iterdir(), *(STATIC / "js").iterdir(), STATIC / "page.css"]
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://", text), path
        assert "innerHTML" not in text and "eval(" not in text, path
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text), path


def test_what_is_vendored_is_as_it_was_published() -> None:
    listed = dict(re.findall(r"\| `(uplot/\S+)` \| `([0-9a-f]{64})` \|", (STATIC / "vendor" / "README.md").read_text()))
    found = {f"uplot/{path.name}" for path in (STATIC / "vendor" / "uplot").iterdir()}
    assert set(listed) == found
    for name, sha256 in listed.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == sha256, name
