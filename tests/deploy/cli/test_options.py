from __future__ import annotations

import argparse

import pytest

from deploy.cli.options import minimum


@pytest.mark.parametrize(("least", "text"), [(0, "0"), (1, "1"), (1, "12")])
def test_whole_numbers_from_the_least_on_are_taken(least: int, text: str) -> None:
    assert minimum(least)(text) == int(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "one", "\N{FULLWIDTH DIGIT ONE}"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 on"):
        minimum(1)(text)
