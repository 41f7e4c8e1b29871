"""Each engine is made when it is chosen, and nothing of the other is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_agent.engine.choice import Choice, make_engine
from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.torch_engine import TorchEngine
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import Layout
from tests.models import tiny_pack


@pytest.fixture
def layout() -> Layout:
    return module_layout(load_manifest(tiny_pack()), 2, 3)


def test_the_chosen_engine_is_made(layout: Layout) -> None:
    assert isinstance(make_engine(Choice(1), tiny_pack(), layout, 1.0), BlockwiseEngine)
    assert isinstance(make_engine(Choice(1, "torch", "cpu"), tiny_pack(), layout, 1.0), TorchEngine)


def test_torch_is_not_imported_unless_it_is_chosen() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from edge_agent.engine.choice import Choice, make_engine\n"
        "from edge_agent.wire.pack import load_manifest, module_layout\n"
        f"pack = Path({str(tiny_pack())!r})\n"
        "make_engine(Choice(1), pack, module_layout(load_manifest(pack), 2, 3), 1.0)\n"
        "print(*{'torch', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("missing", ["torch", "onnx"])
def test_what_is_not_installed_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in ("edge_agent.engine.torch_engine", "edge_agent.engine.torch_graph"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf"{missing}.*pip install 'rankfleet\[torch\]', or set engine = \"onnx\""):
        make_engine(Choice(1, "torch", "cpu"), tiny_pack(), layout, 1.0)
