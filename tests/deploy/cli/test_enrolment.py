from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.enrolment.registry import Registry
from deploy.cli import enrolment
from deploy.cli.main import main
from tests.coordinator.enrolment.fleets import BoardKey
from tests.coordinator.enrolment.gates import utc_now
from tests.gateways import FLEET, founded

KEYS = [BoardKey.make() for _ in range(2)]
Ask = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    founded(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def ask(folder: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """What a command prints as JSON."""

    def run(*arguments: str, options: tuple[str, ...] = (), status: int = 0) -> Any:
        capsys.readouterr()
        assert main(["coordinator", *arguments, str(folder), *options, "--json"]) == status
        captured = capsys.readouterr()
        return json.loads(captured.out) if status == 0 else captured.err

    return run


def pending(folder: Path, ask: Ask, name: str = "pi-1", key: BoardKey = KEYS[0]) -> str:
    """The id of a board's request, as the service would have taken it."""
    token = ask("token")["token"]
    with enrolment._desk(argparse.Namespace(folder=folder)) as (_fleet, desk):
        return desk.submit(token, name, key.request_pem, utc_now()).id


def test_a_token_is_one_line_to_paste(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coordinator", "token", str(folder), "--device", "pi-1"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.startswith("curl -fsSk https://127.0.0.1:8443/v1/install.sh -o rankfleet-install.sh && echo ")
    assert out.endswith(" --device pi-1\n")


def test_requests_are_shown_with_their_fingerprint_and_approved(folder: Path, ask: Ask) -> None:
    number = pending(folder, ask)
    (shown,) = ask("requests")
    assert (shown["id"], shown["device"], len(shown["fingerprint"])) == (number, "pi-1", 64)
    assert ask("approve", "pi-1")["state"] == "approved"
    assert ask("requests") == []
    assert [one["name"] for one in ask("devices")] == ["pi-1"]


def test_a_request_is_rejected_with_a_reason(folder: Path, ask: Ask) -> None:
    number = pending(folder, ask)
    assert ask("reject", number, options=("--reason", "not ours"))["reason"] == "not ours"
    assert "was rejected" in ask("approve", number, status=1)


def test_a_device_is_rotated_and_revoked(folder: Path, ask: Ask) -> None:
    ask("approve", pending(folder, ask))
    ask("rotate", "pi-1")
    assert ask("devices")[0]["rotate"]
    revoked = ask("revoke", "pi-1")
    assert len(revoked["serials"]) == 1
    assert "does not run" in revoked["session"]
    assert revoked["rounds"] == []
    assert ask("devices")[0]["state"] == "revoked"
    assert (folder / "tls" / "revoked-devices").read_text() == "pi-1\n"


def test_names_are_approved_beforehand(folder: Path, ask: Ask, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text("pi-1\npi-2\n")
    assert ask("preapprove", str(names))["devices"] == ["pi-1", "pi-2"]
    pending(folder, ask, "pi-2")
    assert ask("requests") == []


@pytest.mark.parametrize("place", [1, 3, 4])
def test_the_folder_stands_anywhere(place: int, folder: Path, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    pending(folder, ask)
    words = ["pi-1", "--reason", "not ours", "--json"]
    words.insert(place, str(folder))
    capsys.readouterr()
    assert main(["coordinator", "reject", *words]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "not ours"


def test_who_did_it_is_in_the_audit_trail(folder: Path, ask: Ask) -> None:
    ask("approve", pending(folder, ask))
    registry = Registry(folder / "enrolment.db")
    trail = [(entry.who, entry.what) for entry in registry.audit()]
    registry.close()
    assert trail == [("the command line", what) for what in ("token", "requested", "approved")]


def test_what_is_not_there_is_named(folder: Path, ask: Ask) -> None:
    assert FLEET in (folder / "fleet.toml").read_text()
    for command in ("approve", "reject", "revoke", "rotate"):
        assert "pi-9" in ask(command, "pi-9", status=1)
    assert "nowhere" in ask("preapprove", "nowhere", status=1)
