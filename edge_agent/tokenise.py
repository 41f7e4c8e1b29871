"""Texts to token ids, and token ids to padded batches of few different shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from edge_agent.wire.cost import buckets_up_to
from edge_agent.wire.errors import EngineError, PackError

Int32 = npt.NDArray[np.int32]

# The library's encodings hold every token as a string too: for all texts at once that would be the peak of the process.
_TEXTS_AT_ONCE = 64


class Tokeniser:
    """A pack's tokenizer.

    `path` is its `tokenizer.json`, whose own padding and truncation are overridden: texts are cut to `max_tokens`,
    special tokens included, and padded on the right with `pad_id` by `collate`.

    Raises:
        PackError: the file is missing or not a tokenizer, or adds more special tokens than `max_tokens`.
    """

    def __init__(self, path: Path, pad_id: int, max_tokens: int) -> None:
        self._tokenizer = _load(path)
        special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if special_tokens >= max_tokens:
            raise PackError(
                f"{path} adds {special_tokens} special tokens to a text, which leaves no room in {max_tokens} tokens: "
                "raise max_tokens"
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._pad_id = pad_id
        self.buckets: tuple[int, ...] = buckets_up_to(max_tokens)
        """Lengths to pad to: the common ones below `max_tokens`, and that itself."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, at least one and at most `max_tokens`.

        A text without any token becomes one padding token that counts: the mean over nothing is not a number.

        Raises:
            PackError: the tokenizer cannot be used.
        """
        return [encoded or [self._pad_id] for encoded in self._encoded(texts)]

    def collate(self, ids: Sequence[Sequence[int] | Int32], pad_to: int) -> tuple[Int32, Int32]:
        """Input ids and attention mask (1 for a token, 0 for padding), both `(len(ids), pad_to)`.

        Raises:
            EngineError: a sequence is longer than `pad_to`.
        """
        input_ids = np.full((len(ids), pad_to), self._pad_id, dtype=np.int32)
        attention_mask = np.zeros((len(ids), pad_to), dtype=np.int32)
        for row, sequence in enumerate(ids):
            if len(sequence) > pad_to:
                raise EngineError(f"a sequence of {len(sequence)} tokens does not fit in {pad_to}: use a larger bucket")
            input_ids[row, : len(sequence)] = sequence
            attention_mask[row, : len(sequence)] = 1
        return input_ids, attention_mask

    def _encoded(self, texts: Sequence[str]) -> Iterator[list[int]]:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            try:
                encodings = self._tokenizer.encode_batch_fast(texts[start : start + _TEXTS_AT_ONCE])
            except Exception as error:  # the library raises nothing narrower
                raise PackError(  # nothing of the error, which may quote a text
                    f"the pack's tokenizer cannot be used ({type(error).__name__}): fetch the pack again"
                ) from None
            for encoding in encodings:
                yield encoding.ids


def _load(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise PackError(f"{path} cannot be read as a tokenizer ({error}): fetch the pack again") from error
