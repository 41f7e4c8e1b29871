"""Debian's changelog and copyright file, out of the project's changelog and the metadata of what is carried."""

from __future__ import annotations

from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

import pytest

from deploy.board.debian_texts import changelog, copyright_notice
from edge_agent.wire.errors import ConfigError

NEWS = """\
# Changelog

Words before.

## 0.2.0 (2026-12-01)

- A long entry that goes on and on until it no longer fits into one line of a Debian changelog,
  and has a second line.
- Another.

## 0.1.0

- The first one.
"""


def test_the_entries_of_one_version_become_an_entry_of_debian() -> None:
    text = changelog(NEWS, "0.2.0", ("pkg", "0.2.0+cp311"), "A B <a@b.example>", 1_795_718_445)
    lines = text.splitlines()
    assert lines[0] == "pkg (0.2.0+cp311) stable; urgency=medium"
    assert lines[2].startswith("  * A long entry") and lines[3].startswith("    ")
    assert "  * Another." in lines and "The first one" not in text
    assert lines[-1] == " -- A B <a@b.example>  Thu, 26 Nov 2026 18:40:45 +0000"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("version", ["0.3.0", "0.2", "0.1.0.dev1"])
def test_a_version_without_entries_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=f"no entries for {version}"):
        changelog(NEWS, version, ("pkg", version), "A B <a@b.example>", 0)


def _distribution(site: Path, name: str, *metadata: str, files: tuple[str, ...] = ()) -> Distribution:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *metadata, ""]))
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return next(iter(distributions(name=name, path=[str(site)])))


def test_each_work_is_named_with_its_licence_and_where_its_text_is(tmp_path: Path) -> None:
    carried = [
        _distribution(
            tmp_path, "one", "License-Expression: MIT", files=("one-1.0.dist-info/licenses/LICENSE", "one.py")
        ),
        _distribution(tmp_path, "two", "Classifier: License :: OSI Approved :: BSD License", "License: long text"),
        _distribution(tmp_path, "three", "License: Apache 2.0", files=("three/licence.py",)),
        _distribution(tmp_path, "rankfleet", "License-Expression: Apache-2.0"),
    ]
    text = copyright_notice(carried, PurePosixPath("/usr/lib/x"), 2026)
    assert "Copyright 2026" in text
    assert "one 1.0: MIT\n    /usr/lib/x/one-1.0.dist-info/licenses/LICENSE\n" in text
    assert "two 1.0: BSD License\n" in text and "three 1.0: Apache 2.0\n" in text
    assert "rankfleet 1.0" not in text and "licence.py" not in text


def test_a_work_without_a_licence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bare 1\.0 names no licence"):
        copyright_notice([_distribution(tmp_path, "bare")], PurePosixPath("/x"), 2026)
