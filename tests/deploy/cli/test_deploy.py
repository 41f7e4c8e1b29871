"""`rankfleet deploy` names what it can make."""

from __future__ import annotations

import pytest

from deploy.cli.main import main


def test_without_a_thing_to_make_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["deploy"])
    assert end.value.code == 2
    with pytest.raises(SystemExit):
        main(["deploy", "--help"])
    assert "deb" in capsys.readouterr().out
