"""Multi-head attention on a tape, with its way back."""

from __future__ import annotations

from dataclasses import dataclass

from .tape import Tape


@dataclass(frozen=True)
class Heads:
    """How attention splits its width: `count` heads of `size` numbers, and `keys` heads of keys and values.

    Fewer of those than of queries is grouped-query attention (arXiv 2305.13245): each serves `count / keys` heads in a
    row. `rotary` turns queries and keys by their positions, with the graph's inputs `cos` and `sin` (arXiv 2104.09864);
    `relative` adds the input of that name to the scores (arXiv 1910.10683, section 2.1).
    """

    count: int
    size: int
    keys: int
    rotary: bool = False
    relative: bool = False


def attention(tape: Tape, q: str, k: str, v: str, heads: Heads) -> str:
    """`softmax(q k^T / sqrt(size) + mask) v` of `(n, d)`; `mask` is the graph's input of that name.

    The way back needs the sum over the keys of `P * dP`, which is that of `o * do` over a head's numbers (arXiv
    2205.14135, appendix B.2): fewer by the number of keys over the size of a head.
    """
    query = _grouped(tape, _turned(tape, _split(tape, q, heads.count, heads), heads), heads)
    key = _turned(tape, _split(tape, k, heads.keys, heads), heads)
    value = _split(tape, v, heads.keys, heads)
    scaled = tape.op("Mul", query, tape.constant(heads.size**-0.5))
    shares = _shares(tape, tape.op("MatMul", scaled, _swap(tape, key)), heads)
    mixed = tape.op("MatMul", shares, value)

    def pull(dy: str) -> dict[str, str]:
        d_mixed = _grouped(tape, _split(tape, dy, heads.count, heads), heads)
        d_value = tape.op("MatMul", _swap(tape, shares), d_mixed)
        lost = tape.op("ReduceSum", tape.op("Mul", d_mixed, mixed), tape.constant([-1]), keepdims=1)
        d_shares = tape.op("MatMul", d_mixed, _swap(tape, value))
        d_scores = tape.op("Mul", shares, tape.op("Sub", d_shares, lost))
        d_query = tape.op("Mul", tape.op("MatMul", d_scores, key), tape.constant(heads.size**-0.5))
        d_key = tape.op("MatMul", _swap(tape, d_scores), scaled)
        return {
            q: _join(tape, _turned_back(tape, _single(tape, d_query, heads), heads), heads.count, heads),
            k: _join(tape, _turned_back(tape, d_key, heads), heads.keys, heads),
            v: _join(tape, d_value, heads.keys, heads),
        }

    return tape.record(_join(tape, _single(tape, mixed, heads), heads.count, heads), pull)


def _shares(tape: Tape, scores: str, heads: Heads) -> str:
    """The share of every key in every query, as `_grouped` lays them out."""
    scores = _single(tape, scores, heads)
    if heads.relative:
        scores = tape.op("Add", scores, "relative")
    return _grouped(tape, tape.op("Softmax", tape.op("Add", scores, "mask"), axis=-1), heads)


def _split(tape: Tape, x: str, count: int, heads: Heads) -> str:
    """`(n, count * size)` as `(b, count, s, size)`."""
    sequences = tape.op("Shape", "mask", start=0, end=1)
    shape = tape.op("Concat", sequences, tape.constant([-1, count, heads.size]), axis=0)
    return tape.op("Transpose", tape.op("Reshape", x, shape), perm=[0, 2, 1, 3])


def _join(tape: Tape, x: str, count: int, heads: Heads) -> str:
    """Back to `(n, count * size)`."""
    turned = tape.op("Transpose", x, perm=[0, 2, 1, 3])
    return tape.op("Reshape", turned, tape.constant([-1, count * heads.size]))


def _grouped(tape: Tape, x: str, heads: Heads) -> str:
    """`(b, count, s, .)` as `(b, keys, s * count / keys, .)`: heads that share keys are more rows of one product."""
    return x if heads.keys == heads.count else tape.op("Reshape", x, tape.constant([0, heads.keys, -1, 0]))


def _single(tape: Tape, x: str, heads: Heads) -> str:
    """Back to `(b, count, s, .)`."""
    return x if heads.keys == heads.count else tape.op("Reshape", x, tape.constant([0, heads.count, -1, 0]))


def _turned(tape: Tape, x: str, heads: Heads) -> str:
    """Each number and its partner half a head away, turned by an angle that grows with the position."""
    return tape.op("Add", *_turns(tape, x, heads)) if heads.rotary else x


def _turned_back(tape: Tape, x: str, heads: Heads) -> str:
    """The derivative of a turn is the turn by the opposite angle."""
    return tape.op("Sub", *_turns(tape, x, heads)) if heads.rotary else x


def _turns(tape: Tape, x: str, heads: Heads) -> tuple[str, str]:
    halves = tape.ops("Split", [x, tape.constant([heads.size // 2] * 2)], 2, axis=-1)
    partners = tape.op("Concat", *reversed(halves), axis=-1)
    return tape.op("Mul", x, "cos"), tape.op("Mul", partners, "sin")


def _swap(tape: Tape, x: str) -> str:
    return tape.op("Transpose", x, perm=[0, 1, 3, 2])
