"""Multi-head attention on a tape, with its way back."""

from __future__ import annotations

from dataclasses import dataclass

from .tape import Tape


@dataclass(frozen=True)
class Heads:
    """How attention splits its width."""

    count: int
    size: int


def attention(tape: Tape, q: str, k: str, v: str, heads: Heads) -> str:
    """`softmax(q k^T / sqrt(size) + mask) v` of `(n, d)`; `mask` is the graph's input of that name.

    The way back needs the sum over the keys of `P * dP`, which is that of `o * do` over a head's numbers (arXiv
    2205.14135, appendix B.2): fewer by the number of keys over the size of a head.
    """
    query, key, value = (_split(tape, t, heads) for t in (q, k, v))
    scaled = tape.op("Mul", query, tape.constant(heads.size**-0.5))
    scores = tape.op("MatMul", scaled, _swap(tape, key))
    shares = tape.op("Softmax", tape.op("Add", scores, "mask"), axis=-1)
    mixed = tape.op("MatMul", shares, value)

    def pull(dy: str) -> tuple[str, str, str]:
        d_mixed = _split(tape, dy, heads)
        d_value = tape.op("MatMul", _swap(tape, shares), d_mixed)
        lost = tape.op("ReduceSum", tape.op("Mul", d_mixed, mixed), tape.constant([-1]), keepdims=1)
        d_shares = tape.op("MatMul", d_mixed, _swap(tape, value))
        d_scores = tape.op("Mul", shares, tape.op("Sub", d_shares, lost))
        d_query = tape.op("Mul", tape.op("MatMul", d_scores, key), tape.constant(heads.size**-0.5))
        d_key = tape.op("MatMul", _swap(tape, d_scores), scaled)
        return _join(tape, d_query, heads), _join(tape, d_key, heads), _join(tape, d_value, heads)

    return tape.record(_join(tape, mixed, heads), lambda dy: dict(zip((q, k, v), pull(dy), strict=True)))


def _split(tape: Tape, x: str, heads: Heads) -> str:
    """`(n, d)` as `(b, heads, s, size)`."""
    sequences = tape.op("Shape", "mask", start=0, end=1)
    shape = tape.op("Concat", sequences, tape.constant([-1, heads.count, heads.size]), axis=0)
    return tape.op("Transpose", tape.op("Reshape", x, shape), perm=[0, 2, 1, 3])


def _join(tape: Tape, x: str, heads: Heads) -> str:
    """Back to `(n, d)`."""
    turned = tape.op("Transpose", x, perm=[0, 2, 1, 3])
    return tape.op("Reshape", turned, tape.constant([-1, heads.count * heads.size]))


def _swap(tape: Tape, x: str) -> str:
    return tape.op("Transpose", x, perm=[0, 1, 3, 2])
