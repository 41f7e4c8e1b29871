"""Manifests whose tensors do not fit each other: refused when they are read, with the name of what does not fit."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire import cost
from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import Manifest, ModuleEntry, TensorEntry, load_manifest, parse_manifest
from tests.manifests import MODULES, make_manifest, make_tensors
from tests.models import FAMILIES, tiny_pack


def entry(*shape: int, dtype: str = "float32", scale: str | None = None) -> TensorEntry:
    return TensorEntry(dtype, shape, 0, 0, scale)  # type: ignore[arg-type]


def with_tensors(**changed: TensorEntry | None) -> Manifest:
    """The small manifest with other tensors; None takes one away. `__` stands for a dot."""
    named = {name.replace("__", "."): one for name, one in changed.items()}
    tensors = {name: one for name, one in {**make_tensors(), **named}.items() if one is not None}
    return msgspec.structs.replace(make_manifest(), tensors=tensors)


def read(manifest: Manifest) -> Manifest:
    return parse_manifest(msgspec.json.encode(manifest))


def test_a_manifest_that_fits_is_read() -> None:
    assert read(make_manifest()) == make_manifest()
    whole = with_tensors(
        output__word=entry(9, 4, dtype="int8", scale="output.word.scale"),
        **{"output.word.scale": entry(9, 1)},
        embedding__position=entry(20, 4),
        embedding__norm__weight=entry(4),
        embedding__norm__bias=entry(4),
        context__relative=entry(31, 2),
        context__cos=entry(16, 3),
        context__sin=entry(16, 3),
        final__norm__weight=entry(4),
        final__norm__bias=entry(4),
        pooler__weight=entry(4, 4, dtype="int8", scale="pooler.weight.scale"),
        **{"pooler.weight.scale": entry(4)},
        pooler__bias=entry(4),
    )
    whole = msgspec.structs.replace(whole, pooling="pooler")
    assert read(whole) == whole


@pytest.mark.parametrize("weights", ["int8", "fp32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packs_that_were_built_are_read(family: str, weights: str) -> None:
    assert cost.model_of(load_manifest(tiny_pack(weights, family))).block_parameters > 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"embedding__word": None}, "no tensor embedding.word"),
        ({"embedding__word": entry(9, 5)}, r"embedding.word should have the shape \(9, 4\)"),
        ({"embedding__word": entry(8, 4)}, r"embedding.word should have the shape \(9, 4\)"),
        ({"block.0.query.weight": None}, "no tensor block.0.query.weight"),
        ({"block.1.query.weight": None}, "no tensor block.1.query.weight"),
        ({"block.1.query.weight": entry(6, 4)}, "block.1.query.weight should have the shape"),
        ({"block.1.query.weight": entry(4, 6, dtype="float16")}, "of another type"),
        ({"embedding__position": entry(15, 4)}, "embedding.position"),
        ({"embedding__position": entry(64)}, "embedding.position"),
        ({"embedding__position": entry()}, "embedding.position"),
        ({"embedding__norm__weight": entry(4)}, "no tensor embedding.norm.bias"),
        ({"context__relative": entry(31, 4)}, "context.relative"),
        ({"context__cos": entry(16, 3)}, "both of context.cos and context.sin"),
        ({"context__cos": entry(16, 3), "context__sin": entry(16, 4)}, "context.sin"),
        ({"context__cos": entry(), "context__sin": entry()}, "context.cos"),
        ({"context__cos": entry(16), "context__sin": entry(16)}, "context.cos"),
        ({"final__norm__weight": entry(5)}, "final.norm.weight"),
        ({"output__word": entry(4, 9)}, "output.word"),
        ({"output__word": entry(9, 4, dtype="int8")}, "output.word is stored as int8 with the scale None"),
        ({"output__word": entry(9, 4, scale="embedding.word")}, "output.word is stored as float32 with the scale"),
        ({"output__word": entry(9, 4, dtype="int8", scale="gone")}, "no tensor gone"),
        ({"output__word": entry(9, 4, dtype="int8", scale="s"), "s": entry(4)}, r"s should have the shape \(9, 1\)"),
        ({"final__x": entry(4, 6, dtype="int8", scale="s"), "s": entry(4)}, r"s should have the shape \(6,\)"),
        ({"context__x": entry(4, 6, dtype="int8", scale="s"), "s": entry(6)}, "turns them"),
        ({"final__x": entry(4, dtype="int8", scale="s"), "s": entry(4)}, "only matrices"),
        ({"final__x": entry(4, 6, dtype="int8", scale="s"), "s": entry(6, dtype="float16")}, "must be float32"),
    ],
    ids=str,
)
def test_a_tensor_that_does_not_fit_is_named(changed: dict[str, TensorEntry | None], says: str) -> None:
    with pytest.raises(PackError, match=says) as caught:
        read(with_tensors(**changed))
    assert str(caught.value).endswith("build the pack again")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"block_weights": ()}, "no weights of a block"),
        ({"block_weights": ("query.weight", "key.weight")}, "no tensor block.0.key.weight"),
        ({"pooling": "pooler"}, "no tensor pooler.weight"),
        ({"pad_token_id": 9}, "token 9 pads"),
        ({"blocks": 3}, "no tensor block.2.query.weight"),
        ({"modules": MODULES[:1]}, "the same in all of its 2 blocks"),
        ({"modules": (MODULES[0], ModuleEntry("layer.1.query", "query", 1, 6, 4))}, "the same in all"),
        ({"modules": (*MODULES, ModuleEntry("again", "query", 0, 4, 6))}, "two modules of one name"),
        ({"modules": tuple(ModuleEntry(f"key{i}", "key", i, 4, 6) for i in range(2))}, "key has no weight"),
        ({"modules": tuple(ModuleEntry(f"q{i}", "query", i, 6, 4) for i in range(2))}, "query.weight should have"),
    ],
    ids=str,
)
def test_modules_and_blocks_that_do_not_fit_are_named(changes: dict[str, object], says: str) -> None:
    with pytest.raises(PackError, match=says):
        read(msgspec.structs.replace(make_manifest(), **changes))


def test_a_manifest_that_claims_countless_blocks_is_refused_at_once() -> None:
    with pytest.raises(PackError):
        read(msgspec.structs.replace(make_manifest(), blocks=2**31, block_weights=()))


@given(st.dictionaries(st.sampled_from(sorted(make_tensors())), st.builds(entry, st.integers(1, 9), st.integers(1, 9))))
def test_what_is_read_can_be_planned_with(tensors: dict[str, TensorEntry]) -> None:
    try:
        manifest = read(with_tensors(**tensors))
    except PackError:
        return
    assert cost.model_of(manifest).block_parameters == 24
