"""Quantised rows: one scale a row and group, and error feedback.

A group is a part of a row whose numbers are alike: `A`, `B`, or a head row's weights. `int8` and `int4` are
symmetric: `scale = max|v| / 127` (or 7), `code = rint(v / scale)`. A group of width 1 (`E`, a bias) stays float32
in every scheme: a scale of its own would cost more than it saves, and the error of an `E` is multiplied into its
whole rank. Only elementwise IEEE operations on float32 are used, so both sides and all platforms get the same bits.

Error feedback (Seide et al., Interspeech 2014; Karimireddy et al., arXiv 1901.09847): what quantisation loses is
kept and added to the next change, so the sum of what was sent plus the residual is the sum of the changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ConfigError, PayloadError

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scheme:
    """How wide groups are stored. `levels` is the largest code, or 0 for a floating-point scheme."""

    name: str
    number: int
    """Its number on the wire; never reused."""
    dtype: str
    levels: int
    bits: int
    """Upper bound of what a number costs on the wire, scales aside; entropy coding usually does better."""


SCHEMES = {
    s.name: s
    for s in (
        Scheme("fp32", 1, "<f4", 0, 32),
        Scheme("fp16", 2, "<f2", 0, 16),
        Scheme("int8", 3, "|i1", 127, 8),
        Scheme("int4", 4, "|i1", 7, 4),
    )
}
_FP16_MAX = np.float32(65504)


@dataclass(frozen=True)
class Quantised:
    """`n` rows in `scheme`, split by `groups`.

    `codes` is `(n, numbers in wide groups)` of the scheme's dtype, `scales` `(n, wide groups)` float32 (no columns
    in a floating-point scheme), `exact` `(n, groups of width 1)` float32.
    """

    scheme: Scheme
    groups: tuple[int, ...]
    codes: npt.NDArray[Any]
    scales: Values
    exact: Values


def find_scheme(name: str) -> Scheme:
    """The scheme called `name`.

    Raises:
        ConfigError: if there is none.
    """
    if name not in SCHEMES:
        raise ConfigError(f"quantisation must be one of {', '.join(SCHEMES)}; got {name!r}")
    return SCHEMES[name]


def find_number(number: int) -> Scheme:
    """The scheme with this number on the wire.

    Raises:
        PayloadError: if there is none.
    """
    for scheme in SCHEMES.values():
        if scheme.number == number:
            return scheme
    raise PayloadError(f"quantisation number {number} is unknown: is the other side of a newer release?")


def wide(groups: tuple[int, ...]) -> tuple[int, ...]:
    """The widths of the groups that are coded."""
    return tuple(width for width in groups if width > 1)


def scale_columns(groups: tuple[int, ...], scheme: Scheme) -> int:
    """Scales in one row."""
    return len(wide(groups)) if scheme.levels else 0


def quantise(values: Values, groups: tuple[int, ...], scheme: Scheme) -> Quantised:
    """`values (n, sum(groups))`, finite, in `scheme`."""
    single = _single_columns(groups)
    exact, coarse = values[:, single], values[:, ~single]
    if not scheme.levels:
        codes = np.clip(coarse, -_FP16_MAX, _FP16_MAX) if scheme.name == "fp16" else coarse
        return Quantised(scheme, groups, codes.astype(scheme.dtype), exact[:, :0].copy(), exact)
    parts = [_code(part, scheme.levels) for part in _split(coarse, groups)]
    codes = np.concatenate([codes for codes, _ in parts], axis=1)
    return Quantised(scheme, groups, codes, np.stack([scale for _, scale in parts], axis=1), exact)


def dequantise(quantised: Quantised) -> Values:
    """The float32 rows `(n, sum(groups))` that `quantised` stands for."""
    single = _single_columns(quantised.groups)
    rows = np.empty((len(quantised.codes), len(single)), dtype=np.float32)
    coarse = quantised.codes.astype(np.float32)
    if quantised.scheme.levels:
        for part, scale in zip(_split(coarse, quantised.groups), quantised.scales.T, strict=True):
            np.multiply(part, scale[:, None], out=part)
    rows[:, ~single] = coarse
    rows[:, single] = quantised.exact
    return rows


def with_feedback(delta: Values, residual: Values, groups: tuple[int, ...], scheme: Scheme) -> tuple[Quantised, Values]:
    """`delta + residual` quantised, and the residual that this leaves; all `(n, sum(groups))`."""
    target = delta + residual
    quantised = quantise(target, groups, scheme)
    return quantised, target - dequantise(quantised)


def _single_columns(groups: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return np.repeat(np.array(groups) == 1, groups)


def _split(coarse: Values, groups: tuple[int, ...]) -> list[Values]:
    """Views of the wide groups."""
    return np.split(coarse, np.cumsum(wide(groups))[:-1], axis=1)


def _code(values: Values, levels: int) -> tuple[npt.NDArray[np.int8], Values]:
    scale = np.abs(values).max(axis=1) / np.float32(levels)
    # A row of zeros, or one so small that its scale underflows, has scale 0 and codes 0.
    divisor = np.where(scale > 0, scale, np.float32(np.inf))
    codes = np.clip(np.rint(values / divisor[:, None]), -levels, levels)
    return codes.astype(np.int8), scale
