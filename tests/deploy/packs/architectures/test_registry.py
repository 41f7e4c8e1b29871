from __future__ import annotations

import pytest
import transformers

from deploy.packs.architectures import DECODERS, FAMILIES, take_apart
from deploy.packs.source import read_source
from edge_agent.wire.errors import PackError
from tests import models


def test_another_family_names_what_is_supported() -> None:
    with pytest.raises(PackError, match="'t5' are not supported: use one of type bert, distilbert, gpt2, llama, mpnet"):
        take_apart(transformers.T5Config(), {})


def test_every_family_is_tested() -> None:
    assert FAMILIES.keys() == models.FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_decoders_see_what_is_before_only(family: str) -> None:
    source = read_source(models.tiny_source(models.tiny_pack("int8", family)))
    parts = take_apart(source.config, source.state)
    assert parts.causal == (family in DECODERS)
    assert (len(parts.blocks), parts.d_model, parts.max_tokens) == (models.BLOCKS, models.D_MODEL, models.TOKENS)
