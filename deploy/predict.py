"""Predictions of a run: by the gateway, from the merged model, or by one agent, from what it keeps. Without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from deploy.folders import MERGED_MODEL, agent_states, is_agent, is_run, neither
from edge_agent import predict as on_agent
from edge_agent.predict import Answer, Float32, Int32
from edge_agent.tokenise import Tokeniser
from edge_agent.wire.errors import ConfigError, PackError, StoreError
from edge_agent.wire.pack import TOKENIZER

GATEWAY = "the gateway"


class Predictions(NamedTuple):
    """Answers to texts, in their order, and who gave them."""

    by: str
    answers: list[Answer]


def predict(run: Path, texts: Sequence[str], *, agent: str | None = None) -> Predictions:
    """Predictions for `texts` by what lies in the folder `run`.

    That is the merged model of a run folder, or the state of an agent: of the demo's agent called `agent`, or of the
    agent whose state folder `run` is.

    Raises:
        ConfigError: `run` is no such folder, or there is no such agent.
        StoreError: there is no model yet; says how to get one.
        PackError: the model is incomplete or of another origin.
        DataError: a text is empty.
    """
    if agent is not None:
        return Predictions(f"agent {agent}", on_agent.predict(_state_dir(run, agent), texts))
    if is_agent(run):
        return Predictions("the agent", on_agent.predict(run, texts))
    if (run / MERGED_MODEL).is_file():
        return Predictions(GATEWAY, MergedModel(run / MERGED_MODEL).predict(texts))
    if not is_run(run):
        raise neither(run)
    raise StoreError(
        f"the run in {run} has no merged model yet: make it with `rankfleet export {run} {run / MERGED_MODEL}` once a "
        "round is closed"
    )


class MergedModel:
    """A merged model that `export` wrote, with `tokenizer.json` beside it.

    Raises:
        PackError: it cannot be loaded, or another program wrote it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors share no base class
            raise PackError(f"{path} cannot be loaded by ONNX Runtime ({error}): export it again") from error
        about = self._session.get_modelmeta().custom_metadata_map
        try:
            self.classes: tuple[str, ...] = tuple(json.loads(about["classes"]))
            pad_token_id, max_tokens = int(about["pad_token_id"]), int(about["max_tokens"])
        except (KeyError, ValueError) as error:
            raise PackError(f"{path} was not written by `rankfleet export`: its metadata lack {error}") from error
        self._tokeniser = Tokeniser(path.parent / TOKENIZER, pad_token_id, max_tokens)

    def predict(self, texts: Sequence[str]) -> list[Answer]:
        """The answer to each text.

        Raises:
            DataError: a text is empty, or there is none.
        """
        return on_agent.answer(texts, self._tokeniser, self.classes, self._logits)

    def _logits(self, input_ids: Int32, attention_mask: Int32) -> Float32:
        feeds = {"input_ids": input_ids.astype(np.int64), "attention_mask": attention_mask.astype(np.int64)}
        logits: Float32 = self._session.run(["logits"], feeds)[0]
        return logits


def _state_dir(run: Path, agent: str) -> Path:
    states = agent_states(run)
    if agent not in states:
        known = f"it has {', '.join(states)}" if states else "it has none"
        raise ConfigError(f"{run} has no agent {agent!r}: {known}")
    return states[agent]
