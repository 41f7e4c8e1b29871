"""Every decoder returns or refuses as documented, whatever it is given."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire.errors import RankfleetError
from tests.fuzz.mutations import CODECS, mutated, strange
from tests.fuzz.targets import CORPUS, TARGETS, corpus

EXAMPLES = 100
RANDOMS = st.randoms(note_method_calls=False, use_true_random=False)
ENCODED = [name for name, target in TARGETS.items() if target.encoding]


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.binary(max_size=600))
def test_any_bytes_are_decoded_or_refused(name: str, data: bytes) -> None:
    TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(random=RANDOMS)
def test_altered_objects_are_decoded_or_refused(name: str, random: Random) -> None:
    TARGETS[name].run(mutated(corpus(name), random))


@pytest.mark.parametrize("name", ENCODED)
@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(random=RANDOMS)
def test_objects_with_a_strange_value_are_decoded_or_refused(name: str, random: Random) -> None:
    target = TARGETS[name]
    assert target.encoding is not None
    target.run(strange(random.choice(corpus(name)), target.encoding, random))


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_corpus_has_what_its_target_accepts(name: str) -> None:
    accepted = 0
    for data in corpus(name):
        try:
            TARGETS[name].decode(data)
        except RankfleetError:
            continue
        accepted += 1
    assert accepted


def test_a_target_lets_other_errors_escape() -> None:
    def broken(data: bytes) -> None:
        raise IndexError(data)

    with pytest.raises(IndexError):
        TARGETS["update"]._replace(decode=broken).run(b"")


@pytest.mark.parametrize("name", ENCODED)
def test_strange_values_leave_an_object_that_can_be_decoded(name: str) -> None:
    encoding, data = TARGETS[name].encoding, corpus(name)[0]
    assert encoding is not None
    changed = {strange(data, encoding, Random(seed)) for seed in range(100)}
    assert len(changed) > 10
    for one in changed:
        CODECS[encoding].decode(one)
