"""`rankfleet fetch` as a script sees it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from deploy.cli.fetch import add_parser
from deploy.fetch.catalogue import CATALOGUE
from edge_agent.wire.errors import FetchError


def call(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["fetch", *argv])
    result: int = args.run(args)
    return result


def test_the_list_names_every_entry_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--list") == 0
    printed = capsys.readouterr().out
    assert all(e.name in printed and e.origin in printed and e.licence in printed for e in CATALOGUE.values())


def test_the_list_is_json_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--list", "--json") == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == list(CATALOGUE)


def test_prints_the_folder_only_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("excavators", "--cache", str(tmp_path)) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'excavators'}\n"
    assert "downloading nist-nestor 0.4.4" in printed.err
    assert call("excavators", "--cache", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "excavators")


def test_an_unknown_name_is_a_fetch_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="did you mean"):
        call("excavater", "--cache", str(tmp_path))


@pytest.mark.parametrize("argv", [(), ("excavators", "--list")])
def test_either_a_name_or_the_list(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call(*argv)
    assert "usage:" in capsys.readouterr().err
