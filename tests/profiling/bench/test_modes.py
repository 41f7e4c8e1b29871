from __future__ import annotations

import pytest

from edge_agent.wire.errors import ConfigError
from profiling.bench.modes import DEFAULT, OnnxMode, PeftMode, TorchMode, full_of, parse


def test_names_say_what_runs() -> None:
    assert parse("int8-mb1-kept0") == OnnxMode("int8-mb1-kept0", "int8", "float32", 1, 0, False)
    assert parse("fp32-mb16-keptall-final") == OnnxMode("fp32-mb16-keptall-final", "fp32", "float32", 16, None, True)
    assert parse("w8a8-mb2-kept1") == OnnxMode("w8a8-mb2-kept1", "int8", "int8", 2, 1, False)
    assert parse("checkpointing") == TorchMode("checkpointing", True)
    assert parse("adalora") == PeftMode("adalora")


def test_every_default_mode_exists_and_final_ones_have_their_full_one() -> None:
    assert [parse(name).name for name in DEFAULT] == list(DEFAULT)
    assert {full_of(name) for name in DEFAULT} <= set(DEFAULT)


@pytest.mark.parametrize("name", ["int4-mb1-kept0", "int8-mb0-kept0", "int8-mb1", "lora-final", "eager ", ""])
def test_an_unknown_mode_is_named_with_examples(name: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no mode '{name}': expected one like int8-mb1-kept0"):
        parse(name)
