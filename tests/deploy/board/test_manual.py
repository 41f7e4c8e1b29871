"""The manual page says what the command line's help says, in roff that `man` takes."""

from __future__ import annotations

import argparse
import shutil
import subprocess

import pytest

from deploy.board.manual import manual_page
from deploy.cli.main import command_line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prog", description="Does things.\n.hidden line", epilog="Exit status: 0 done."
    )
    commands = parser.add_subparsers()
    agent = commands.add_parser("agent").add_subparsers()
    run = agent.add_parser("run", description="Runs it, well-behaved.")
    run.add_argument("config", metavar="CONFIG", help="a file")
    run.add_argument("--limit-bytes", type=int, default=7, help="how many (default: %(default)s, 100%%)")
    run.add_argument("-j", "--json", action="store_true", help="as JSON")
    return parser


def test_every_command_and_argument_is_on_the_page() -> None:
    page = manual_page(_parser(), "half a sentence", "1.2", "2026-11-26")
    assert page.startswith('.TH PROG 1 "2026-11-26" "prog 1.2"')
    assert r"prog \- half a sentence" in page
    assert ".SS prog agent run\nRuns it, well\\-behaved." in page
    assert ".TP\n\\fICONFIG\\fR\na file" in page
    assert ".TP\n\\fB\\-\\-limit\\-bytes\\fR \\fILIMIT_BYTES\\fR\nhow many (default: 7, 100%)" in page
    assert ".TP\n\\fB\\-j\\fR, \\fB\\-\\-json\\fR\nas JSON" in page
    assert page.endswith(".SH EXIT STATUS\n0 done.\n")


def test_text_that_looks_like_a_request_stays_text() -> None:
    assert "\n\\&.hidden line\n" in manual_page(_parser(), "", "1", "2026-11-26")


def test_a_backslash_stays_a_backslash() -> None:
    parser = argparse.ArgumentParser(prog="prog", description="a\\nb")
    assert "a\\enb" in manual_page(parser, "", "1", "2026-11-26")


def test_man_finds_nothing_wrong_with_the_page_of_the_whole_command_line() -> None:
    man = shutil.which("man")
    if man is None:
        pytest.skip("no man here: apt install man-db")
    page = manual_page(command_line(), "fine-tunes", "0.1.0", "2026-11-26")
    done = subprocess.run(
        [man, "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", "-"], input=page, capture_output=True, text=True,
        env={"LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80", "PATH": "/usr/bin:/bin"}, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert "agent" in done.stdout
