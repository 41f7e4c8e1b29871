"""Memory that is used again from step to step: fresh pages cost more time than most of what is computed on them."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable

import numpy as np

from .protocol import Float32


class Scratch:
    """Arrays by key. Each keeps its memory until it is asked for in a larger size, or all are given back."""

    def __init__(self) -> None:
        self._arrays: dict[Hashable, Float32] = {}

    def array(self, key: Hashable, shape: tuple[int, ...]) -> Float32:
        """An array of `shape` with whatever was in it last. The same key gives the same memory."""
        size = math.prod(shape)
        kept = self._arrays.get(key)
        if kept is None or kept.size < size:
            self._arrays.pop(key, None)  # before the larger one is made: both together would be the peak
            kept = self._arrays[key] = np.empty(size, np.float32)
        return kept[:size].reshape(shape)

    def own(self, key: Hashable, shape: tuple[int, ...]) -> Float32:
        """As `array`, but each thread that asks has memory of its own."""
        return self.array((threading.get_ident(), key), shape)

    def clear(self) -> None:
        """Gives all memory back."""
        self._arrays.clear()
