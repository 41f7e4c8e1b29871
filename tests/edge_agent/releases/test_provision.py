"""What surrounds a release: folders with their modes, a configuration that is written once, a command."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.releases import provision
from edge_agent.releases.layout import Board
from edge_agent.releases.provision import Membership
from edge_agent.wire.errors import ConfigError, ReleaseError

HERE = Membership("pi-1", "depot", "https://gateway.local:8443")


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path)
    provision.make_folders(made)
    return made


def test_what_is_secret_is_the_agents_alone(board: Board) -> None:
    provision.make_folders(board)
    modes = {folder: folder.stat().st_mode & 0o777 for folder in (board.identity, board.state, board.data)}
    assert modes == {board.identity: 0o700, board.state: 0o700, board.data: 0o750}


def test_the_configuration_names_the_fleet_and_is_never_overwritten(board: Board) -> None:
    assert provision.write_config(board, HERE)
    told = msgspec.toml.decode(board.config.read_bytes())
    assert told == {
        "device": "pi-1",
        "fleet": "depot",
        "data": str(board.data),
        "state_dir": str(board.state),
        "broker": {
            "host": "gateway.local",
            "port": 8883,
            "ca_file": str(board.identity / "ca.pem"),
            "certificate_file": str(board.identity / "device.pem"),
            "key_file": str(board.identity / "device.key"),
        },
        "gateway": {"url": "https://gateway.local:8443"},
    }
    assert board.state_dir() == board.state
    board.config.write_text("mine")
    assert not provision.write_config(board, HERE)
    assert board.config.read_text() == "mine"


def test_texts_budget_and_port_are_the_chosen_ones(board: Board) -> None:
    chosen = Membership("pi-1", "depot", "https://[fd00::1]:8443", 8884, Path('/srv/the "texts"'), 512 * 2**20)
    provision.write_config(board, chosen)
    told = msgspec.toml.decode(board.config.read_bytes())
    assert told["data"] == '/srv/the "texts"'
    assert told["memory"] == {"budget_bytes": 536870912}
    assert (told["broker"]["host"], told["broker"]["port"]) == ("fd00::1", 8884)


@pytest.mark.parametrize("url", ["http://gateway:8443", "gateway:8443", "https://"])
def test_only_a_gateway_with_https_is_taken(url: str, board: Board) -> None:
    with pytest.raises(ConfigError, match="https://HOST:PORT"):
        provision.write_config(board, Membership("pi-1", "depot", url))
    assert not board.config.exists()


def test_the_command_is_that_of_the_current_release(board: Board) -> None:
    provision.link_command(board)
    provision.link_command(board)
    assert board.command.readlink() == board.current / "bin" / "rankfleet"
    board.command.unlink()
    board.command.write_text("somebody's own")
    with pytest.raises(ReleaseError, match="move it away"):
        provision.link_command(board)
    assert board.command.read_text() == "somebody's own"


def test_a_pack_lies_where_the_agent_looks_for_it(board: Board, tmp_path: Path) -> None:
    from edge_agent.fetching import Fetcher  # noqa: PLC0415
    from edge_agent.wire import pack  # noqa: PLC0415
    from tests.models import tiny_pack  # noqa: PLC0415 (torch takes seconds)

    source = tiny_pack()
    provision.seed_pack(board, source)
    (folder,) = (board.state / "packs").iterdir()
    assert pack.verify(folder) == pack.verify(source)
    digest = bytes.fromhex(pack.file_sha256(source / pack.MANIFEST))
    assert Fetcher(board.state).pack_dir(digest) == folder
    with pytest.raises(ReleaseError, match="holds no model pack"):
        provision.seed_pack(board, tmp_path / "none")


def test_a_tree_in_a_folder_gets_no_user_of_this_system(board: Board) -> None:
    provision.make_user(board)
    provision.remove_user(board)
    assert "rankfleet:" not in Path("/etc/passwd").read_text()
