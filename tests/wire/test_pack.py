from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import (
    INT8_FILES,
    MANIFEST,
    AccuracyEntry,
    CosineEntry,
    FileEntry,
    Manifest,
    ModuleEntry,
    bytes_per_rank,
    load_manifest,
    module_layout,
    parse_manifest,
    verify,
)
from tests import manifests
from tests.manifests import MODULES

CONTENT = b"content"
ENTRY = FileEntry(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def make_manifest() -> Manifest:
    return manifests.make_manifest(dict.fromkeys(sorted(INT8_FILES), ENTRY), int8=True)


@pytest.fixture
def pack_dir(tmp_path: Path) -> Path:
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(make_manifest()))
    for name in INT8_FILES:
        (tmp_path / name).write_bytes(CONTENT)
    return tmp_path


def test_an_intact_pack_verifies(pack_dir: Path) -> None:
    assert verify(pack_dir) == load_manifest(pack_dir) == make_manifest()


@pytest.mark.parametrize("name", sorted(INT8_FILES))
@pytest.mark.parametrize("damaged", [b"cOntent", b"conten", b"content!", b""], ids=repr)
def test_one_changed_byte_names_the_file(pack_dir: Path, name: str, damaged: bytes) -> None:
    (pack_dir / name).write_bytes(damaged)
    with pytest.raises(PackError, match=name):
        verify(pack_dir)


@pytest.mark.parametrize("name", sorted(INT8_FILES))
def test_a_missing_file_is_named(pack_dir: Path, name: str) -> None:
    (pack_dir / name).unlink()
    with pytest.raises(PackError, match=name):
        verify(pack_dir)


def test_a_folder_without_a_manifest_is_no_pack(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no model pack"):
        load_manifest(tmp_path)


NESTED = b'{"format": 2, "deep": ' + b"[" * 100_000


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[]", b'{"format": 2}', NESTED], ids=lambda data: repr(data[:20])
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(PackError, match="manifest"):
        parse_manifest(data)


def test_a_pack_of_another_format_is_refused() -> None:
    with pytest.raises(PackError, match="format 99"):
        parse_manifest(b'{"format": 99, "new_field": true}')


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("files", {}),
        ("files", {"../weights.bin": {"sha256": "0" * 64, "size_bytes": 1}}),
        ("files", {"/etc.passwd": {"sha256": "0" * 64, "size_bytes": 1}}),
        ("pooling", "max"),
        ("d_model", 0),
        ("blocks", 1),
        ("modules", []),
        ("modules", [MODULES[0], MODULES[0]]),
        ("modules", [ModuleEntry("head", "query", 0, 4, 6)]),
        ("unknown", 1),
    ],
    ids=str,
)
def test_impossible_fields_are_refused(field: str, value: Any) -> None:
    fields = {**msgspec.to_builtins(make_manifest()), field: value}
    with pytest.raises(PackError):
        parse_manifest(msgspec.json.encode(fields))


def measured(**changes: Any) -> Manifest:
    cosine = CosineEntry(0.99, 0.98)
    entry = AccuracyEntry("news", "int8", 60, 16, 8, 64, 500, cosine, cosine, (0.5, 0.75), (0.5, 1.0))
    return msgspec.structs.replace(make_manifest(), accuracy=(msgspec.structs.replace(entry, **changes),))


def test_what_was_measured_is_read_as_written() -> None:
    assert parse_manifest(msgspec.json.encode(measured())) == measured()


@pytest.mark.parametrize(
    "changes",
    [{"products": "int4"}, {"steps": 0}, {"at_start": CosineEntry(1.5, 1.0)}, {"accuracies": (1.1,)}],
    ids=str,
)
def test_impossible_measurements_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PackError):
        parse_manifest(msgspec.json.encode(measured(**changes)))


def test_a_manifest_from_before_there_were_measurements_is_read() -> None:
    fields = msgspec.to_builtins(make_manifest())
    del fields["accuracy"]
    assert parse_manifest(msgspec.json.encode(fields)) == make_manifest()


def test_the_layout_lists_the_modules_in_order() -> None:
    layout = module_layout(make_manifest(), slots=8, classes=3)
    assert [module.name for module in layout.modules] == ["layer.0.query", "layer.1.query"]
    assert (layout.slots, layout.classes, layout.d_model, layout.blocks) == (8, 3, 4, 2)


def test_a_rank_costs_value_gradient_and_two_moments() -> None:
    assert bytes_per_rank(MODULES) == 2 * (4 + 1 + 6) * 4 * 4


def test_reading_manifests_needs_no_numpy() -> None:
    code = "import sys, edge_agent.wire.pack; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
