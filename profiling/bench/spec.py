"""What a worker process is told to run, and what it answers: one JSON argument, then one JSON line for every step."""

from __future__ import annotations

from typing import Literal

import msgspec

Products = Literal["float32", "int8"]
Method = Literal["lora", "adalora"]
Library = Literal["torch", "numpy", "onnxruntime"]
CLASSES = 8
"""Classes of the head: a figure like those of the data sets, and of no weight beside a block."""


class Work(msgspec.Struct, frozen=True):
    """One training step: `batch` sequences of `tokens` random tokens, all of full length; `threads` compute."""

    batch: int
    tokens: int
    rank: int
    threads: int
    seed: int


class Spec(msgspec.Struct, frozen=True, tag_field="engine"):
    """Base of all. `mode` is the row's name."""

    mode: str
    work: Work


class OnnxSpec(Spec, frozen=True, tag="onnx"):
    """This project's engine. `ranks` live in each module, in the pack's order."""

    pack_dir: str
    products: Products
    micro_batch: int
    kept_blocks: int
    ranks: tuple[int, ...]


class TorchSpec(Spec, frozen=True, tag="torch"):
    """Plain torch with the same adapters on the linear layers `modules`; each of `checkpointed` is computed again."""

    model_dir: str
    modules: tuple[str, ...]
    checkpointed: tuple[str, ...]


class PeftSpec(Spec, frozen=True, tag="peft"):
    """PEFT's adapters on the linear layers `modules`."""

    model_dir: str
    modules: tuple[str, ...]
    method: Method


class ProductsSpec(Spec, frozen=True, tag="products"):
    """The matrix products of one block alone, by one library; `shapes` are `(d_in, d_out)` of its linear layers."""

    library: Library
    shapes: tuple[tuple[int, int], ...]


AnySpec = OnnxSpec | TorchSpec | PeftSpec | ProductsSpec


class Done(msgspec.Struct, frozen=True):
    """One step. `loss` is zero where nothing is trained; peaks are those since the process started."""

    step_s: float
    loss: float
    peak_rss_bytes: int
    peak_anonymous_bytes: int
