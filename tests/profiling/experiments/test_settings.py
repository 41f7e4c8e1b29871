"""Runs are told apart by all that their outcome depends on."""

from __future__ import annotations

import msgspec
import pytest

from profiling.experiments.settings import PRODUCT, PUBLISHED, Options, Profile, Run
from tests.experiments import make_run

OTHER = {
    "pack": "other",
    "pack_sha256": "f" * 64,
    "dataset": "other",
    "dataset_sha256": "f" * 64,
    "alpha": None,
    "seed": 7,
    "method": PRODUCT,
    "extras": "other",
    "options": msgspec.convert({"training": {"lr": 0.5}}, Options),
    "profile": Profile(rounds=7),
}


@pytest.mark.parametrize("field", [one.name for one in msgspec.structs.fields(Run)])
def test_every_field_of_a_run_changes_its_key(field: str) -> None:
    assert make_run(**{field: OTHER[field]}).key != make_run().key


def test_a_key_is_that_of_the_content() -> None:
    again = msgspec.json.decode(msgspec.json.encode(make_run()), type=Run)
    assert again.key == make_run().key
    assert len(again.key) == 32


def test_what_was_published_names_settings_that_there_are() -> None:
    options = msgspec.convert(PUBLISHED, Options)
    assert msgspec.to_builtins(options)["training"]["quantisation"] == "fp32"
    assert PUBLISHED.keys() <= msgspec.to_builtins(Options()).keys()
