"""The graph of a whole merged model, composed of a pack's graph of one block. Nodes only: `export` adds the weights.

The pack's block becomes an ONNX function, the model calls it once a block, and onnx's inliner makes the calls plain
nodes again: any runtime can run the result.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

from edge_agent.wire.pack import FORWARD, Manifest

LOGITS = "logits"
INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
HEAD_WEIGHT = "head.weight"
HEAD_BIAS = "head.bias"

_DOMAIN = "rankfleet"
_BLOCK = "Block"
_MASKED = float(np.finfo(np.float32).min)
_EMBEDDED, _LAST, _HIDDEN, _POOLED = "embedded", "last_hidden", "hidden", "pooled"
_MASK, _FLOAT_MASK, _OFFSETS = "additive_mask", "float_mask", "offsets"


def compose(pack_dir: Path, manifest: Manifest, classes: int) -> onnx.ModelProto:
    """The graph for the intact pack in `pack_dir`.

    `input_ids` and `attention_mask` int64 (batch, tokens) -> `logits` float32 (batch, classes); batch and tokens are
    dynamic. It refers to its weights by their names in the manifest, and to the head's as `head.weight` `(classes,
    d_model)` and `head.bias` `(classes,)`.
    """
    block = onnx.load(pack_dir / FORWARD)
    pooling = _POOLING[manifest.pooling](_HIDDEN)
    head = helper.make_node("Gemm", [_POOLED, HEAD_WEIGHT, HEAD_BIAS], [LOGITS], transB=1)
    integers = onnx.TensorProto.INT64
    graph = helper.make_graph(
        [*_embedding(manifest), *_masks(manifest), *_places(manifest), *_blocks(manifest), *pooling, head],
        manifest.model,
        [helper.make_tensor_value_info(name, integers, ["batch", "tokens"]) for name in (INPUT_IDS, ATTENTION_MASK)],
        [helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, ["batch", classes])],
    )
    imports = [*block.opset_import, helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(
        graph, functions=[_function(block, manifest)], opset_imports=imports, ir_version=block.ir_version
    )
    flat: onnx.ModelProto = inliner.inline_local_functions(model)
    del flat.opset_import[:]
    flat.opset_import.extend(block.opset_import)
    return flat


def _function(block: onnx.ModelProto, manifest: Manifest) -> onnx.FunctionProto:
    """The block as a function of hidden states, mask, what else depends on positions, and effective weights."""
    inputs = ["x", "mask", *_context(manifest), *manifest.block_weights]
    values = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in block.graph.initializer]
    return helper.make_function(_DOMAIN, _BLOCK, inputs, ["y"], [*values, *block.graph.node], block.opset_import)


def _embedding(manifest: Manifest) -> list[onnx.NodeProto]:
    """The input of the first block: see `edge_agent.engine.embedding`."""
    nodes = [helper.make_node("Gather", ["embedding.word", INPUT_IDS], ["words"])]
    last = "words"
    if "embedding.position" in manifest.tensors:
        nodes += [
            *_first_rows("embedding.position", "positions"),
            helper.make_node("Add", [last, "positions"], ["placed"]),
        ]
        last = "placed"
    if "embedding.norm.weight" in manifest.tensors:
        norm, eps = [last, "embedding.norm.weight", "embedding.norm.bias"], manifest.norm_eps
        nodes.append(helper.make_node("LayerNormalization", norm, [_EMBEDDED], axis=-1, epsilon=eps))
    else:
        nodes.append(helper.make_node("Identity", [last], [_EMBEDDED]))
    return nodes


def _masks(manifest: Manifest) -> list[onnx.NodeProto]:
    """The mask as the blocks take it: see `edge_agent.engine.context`. And in float32, as pooling does."""
    seen, before = "is_seen", []
    if manifest.causal:
        later = helper.make_node("Greater", [_OFFSETS, "zero"], ["is_later"])
        before = [later, helper.make_node("Not", ["is_later"], ["is_before"])]
        before.append(helper.make_node("And", [seen, "is_before"], ["is_seen_before"]))
    return [
        *(_offsets() if manifest.causal or "relative" in _context(manifest) else []),
        helper.make_node("Cast", [ATTENTION_MASK], ["is_token"], to=onnx.TensorProto.BOOL),
        helper.make_node("Cast", [ATTENTION_MASK], [_FLOAT_MASK], to=onnx.TensorProto.FLOAT),
        _constant("mask.axes", np.array([1, 2])),
        helper.make_node("Unsqueeze", ["is_token", "mask.axes"], [seen]),
        *before,
        _constant("kept", np.float32(0)),
        _constant("masked", np.float32(_MASKED)),
        helper.make_node("Where", ["is_seen_before" if before else seen, "kept", "masked"], [_MASK]),
    ]


def _offsets() -> list[onnx.NodeProto]:
    """(tokens, tokens): how far a key is behind its query."""
    return [
        _constant("zero", np.int64(0)),
        *_length("offsets.tokens"),
        _constant("offsets.one", np.int64(1)),
        helper.make_node("Range", ["zero", "offsets.tokens", "offsets.one"], ["keys"]),
        _constant("offsets.axis", np.array([1])),
        helper.make_node("Unsqueeze", ["keys", "offsets.axis"], ["queries"]),
        helper.make_node("Sub", ["keys", "queries"], [_OFFSETS]),
    ]


def _places(manifest: Manifest) -> list[onnx.NodeProto]:
    """What else of the blocks' inputs depends on positions: see `edge_agent.engine.context`."""
    nodes = []
    for name in _context(manifest):
        if name == "relative":
            nodes += _relative(manifest)
        else:
            nodes += _first_rows(f"context.{name}", name)
    return nodes


def _relative(manifest: Manifest) -> list[onnx.NodeProto]:
    return [
        _constant("relative.first", np.int64(manifest.max_tokens - 1)),
        helper.make_node("Add", [_OFFSETS, "relative.first"], ["relative.rows"]),
        helper.make_node("Gather", ["context.relative", "relative.rows"], ["relative.bias"]),
        helper.make_node("Transpose", ["relative.bias"], ["relative.heads"], perm=[2, 0, 1]),
        _constant("relative.axis", np.array([0])),
        helper.make_node("Unsqueeze", ["relative.heads", "relative.axis"], ["relative"]),
    ]


def _context(manifest: Manifest) -> list[str]:
    return [name for name in ("relative", "cos", "sin") if f"context.{name}" in manifest.tensors]


def _length(name: str) -> list[onnx.NodeProto]:
    """The number of tokens, as a scalar."""
    return [
        helper.make_node("Shape", [INPUT_IDS], [f"{name}.shape"], start=1, end=2),
        helper.make_node("Squeeze", [f"{name}.shape"], [name]),
    ]


def _first_rows(table: str, name: str) -> list[onnx.NodeProto]:
    """As many rows of `table` as there are tokens."""
    return [
        _constant(f"{name}.start", np.array([0])),
        helper.make_node("Shape", [INPUT_IDS], [f"{name}.end"], start=1, end=2),
        helper.make_node("Slice", [table, f"{name}.start", f"{name}.end"], [name]),
    ]


def _blocks(manifest: Manifest) -> list[onnx.NodeProto]:
    """All blocks, which take the tokens of all sequences one below the other: `(b, s, d)` becomes `(b * s, d)`."""
    states = [f"hidden.{index}" for index in range(manifest.blocks + 1)]
    calls = [
        helper.make_node(
            _BLOCK,
            [states[index], _MASK, *_context(manifest), *(f"block.{index}.{name}" for name in manifest.block_weights)],
            [states[index + 1]],
            domain=_DOMAIN,
        )
        for index in range(manifest.blocks)
    ]
    return [
        _constant("flat", np.array([-1, manifest.d_model])),
        helper.make_node("Reshape", [_EMBEDDED, "flat"], [states[0]]),
        *calls,
        helper.make_node("Shape", [_EMBEDDED], ["hidden.shape"]),
        helper.make_node("Reshape", [states[-1], "hidden.shape"], [_LAST]),
        *_final_norm(manifest),
    ]


def _final_norm(manifest: Manifest) -> list[onnx.NodeProto]:
    """See `edge_agent.engine.norm`."""
    weight, bias = "final.norm.weight", "final.norm.bias"
    if weight not in manifest.tensors:
        return [helper.make_node("Identity", [_LAST], [_HIDDEN])]
    if bias in manifest.tensors:
        norm = [_LAST, weight, bias]
        return [helper.make_node("LayerNormalization", norm, [_HIDDEN], axis=-1, epsilon=manifest.norm_eps)]
    return [
        helper.make_node("Mul", [_LAST, _LAST], ["final.squares"]),
        _constant("final.axis", np.array([-1])),
        helper.make_node("ReduceMean", ["final.squares", "final.axis"], ["final.mean"], keepdims=1),
        _constant("final.eps", np.float32(manifest.norm_eps)),
        helper.make_node("Add", ["final.mean", "final.eps"], ["final.variance"]),
        helper.make_node("Sqrt", ["final.variance"], ["final.deviation"]),
        helper.make_node("Div", [_LAST, "final.deviation"], ["final.scaled"]),
        helper.make_node("Mul", ["final.scaled", weight], [_HIDDEN]),
    ]


def _mean(hidden: str) -> list[onnx.NodeProto]:
    """See `edge_agent.engine.head.MeanPooling`."""
    return [
        _constant("mean.axis", np.array([1])),
        helper.make_node("ReduceSum", [_FLOAT_MASK, "mean.axis"], ["mean.tokens"], keepdims=1),
        helper.make_node("Div", [_FLOAT_MASK, "mean.tokens"], ["mean.shares"]),
        helper.make_node("Unsqueeze", ["mean.shares", "mean.axis"], ["mean.row"]),
        helper.make_node("MatMul", ["mean.row", hidden], ["mean.sum"]),
        helper.make_node("Squeeze", ["mean.sum", "mean.axis"], [_POOLED]),
    ]


def _first(hidden: str, pooled: str = _POOLED) -> list[onnx.NodeProto]:
    """See `edge_agent.engine.head.FirstPooling`."""
    place = _constant("first.place", np.array(0))
    return [place, helper.make_node("Gather", [hidden, "first.place"], [pooled], axis=1)]


def _last(hidden: str) -> list[onnx.NodeProto]:
    """See `edge_agent.engine.head.LastPooling`: the one place that is as far in as there are tokens."""
    return [
        _constant("last.axis", np.array([1])),
        helper.make_node("ReduceSum", [ATTENTION_MASK, "last.axis"], ["last.tokens"], keepdims=1),
        _constant("last.one", np.int64(1)),
        helper.make_node("Sub", ["last.tokens", "last.one"], ["last.place"]),
        helper.make_node("GatherND", [hidden, "last.place"], [_POOLED], batch_dims=1),
    ]


def _pooler(hidden: str) -> list[onnx.NodeProto]:
    """See `edge_agent.engine.head.PoolerPooling`."""
    return [
        *_first(hidden, "pooler.first"),
        helper.make_node("Gemm", ["pooler.first", "pooler.weight", "pooler.bias"], ["pooler.sum"]),
        helper.make_node("Tanh", ["pooler.sum"], [_POOLED]),
    ]


def _constant(name: str, value: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


_POOLING: dict[str, Callable[[str], list[onnx.NodeProto]]] = {
    "mean": _mean,
    "cls": _first,
    "last": _last,
    "pooler": _pooler,
}
