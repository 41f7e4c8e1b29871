from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "onnx")


def test_the_engine_leaves_torch_transformers_and_onnx_out() -> None:
    code = f"import sys, edge_agent.engine.onnx_engine; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
