from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.capability import dump, load, load_all
from edge_agent.wire.errors import ConfigError
from tests.wire.examples import CAPABILITY


def test_what_is_recorded_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    path.write_bytes(dump({"pi-2": CAPABILITY, "pi-1": CAPABILITY}))
    assert load(path, "pi-1") == CAPABILITY
    assert load_all(path) == {"pi-1": CAPABILITY, "pi-2": CAPABILITY}
    assert path.read_text().index("pi-1") < path.read_text().index("pi-2")


def test_a_device_that_was_not_recorded_is_named_with_those_that_were(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    path.write_bytes(dump({"pi-2": CAPABILITY, "pi-1": CAPABILITY}))
    with pytest.raises(ConfigError, match=r"recorded\.json has no capability of pi-3; it has those of pi-1, pi-2"):
        load(path, "pi-3")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"pi-1": {"budget_bytes": 1}}', b'{"pi-1": 7}'])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "recorded.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"recorded\.json is not a capabilities file: .* record a new one"):
        load_all(tmp_path / "recorded.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"capabilities: cannot read .*recorded\.json"):
        load_all(tmp_path / "recorded.json")
