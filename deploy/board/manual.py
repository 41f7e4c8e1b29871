"""A manual page out of the command line's own help: what argparse knows, in the roff that `man` reads."""

from __future__ import annotations

import argparse
from collections.abc import Iterator


def manual_page(parser: argparse.ArgumentParser, summary: str, version: str, date: str) -> str:
    """The page of section 1 for `parser` and its subcommands, to any depth.

    Args:
        parser: the whole command line.
        summary: half a sentence that `apropos` shows.
        version: of the program.
        date: of the page, as 2026-11-26.
    """
    lines = [
        f'.TH {_escape(parser.prog).upper()} 1 "{date}" "{_escape(parser.prog)} {_escape(version)}" "User Commands"',
        ".SH NAME",
        rf"{_escape(parser.prog)} \- {_escape(summary)}",
        ".SH SYNOPSIS",
        rf"\fB{_escape(parser.prog)}\fR \fICOMMAND\fR [\fIARGUMENT\fR ...]",
        ".SH DESCRIPTION",
        *_verbatim(parser.description or ""),
        ".SH COMMANDS",
        *_commands(parser),
    ]
    if parser.epilog:
        lines += [".SH EXIT STATUS", _escape(parser.epilog.removeprefix("Exit status: "))]
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # argparse offers no public way to them
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _command(command)


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    below = list(_commands(parser))
    if below:
        yield from below
        return
    yield rf".SS {_escape(parser.prog)}"
    yield from _paragraph(parser.description or "")
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            yield ".TP"
            yield _argument(action)
            yield _escape(_help(parser, action))


def _argument(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return rf"\fI{_escape(value)}\fR"
    names = ", ".join(rf"\fB{_escape(name)}\fR" for name in action.option_strings)
    return names if action.nargs == 0 else rf"{names} \fI{_escape(value)}\fR"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = " ".join((action.help or "").split())
    return text % {**vars(action), "prog": parser.prog} if "%" in text else text


def _paragraph(text: str) -> list[str]:
    return [_escape(" ".join(text.split()))] if text.strip() else []


def _verbatim(text: str) -> list[str]:
    return [".nf", *(_escape(line) for line in text.strip().splitlines()), ".fi"]


def _escape(text: str) -> str:
    """A line of text that roff takes for nothing else: no escapes, no hyphens for minus signs, no requests."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
