from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.replay import WILL_SEQUENCE, WINDOW, Seen, admit, everything_up_to

SEQUENCES = st.lists(st.integers(1, 3 * WINDOW), max_size=60)


def admitted(seen: Seen, boot: int, sequences: list[int]) -> tuple[Seen, list[bool]]:
    found = []
    for sequence in sequences:
        seen, new = admit(seen, boot, sequence)
        found.append(new)
    return seen, found


@given(sequences=SEQUENCES)
def test_a_number_within_the_window_is_admitted_once_and_only_once(sequences: list[int]) -> None:
    seen, came = Seen(1), set[int]()
    for sequence in sequences:
        highest = max(came, default=0)
        seen, new = admit(seen, 1, sequence)
        assert new == (sequence not in came and sequence > highest - WINDOW)
        came.add(sequence)


@given(sequences=SEQUENCES, boot=st.integers(1, 2**32 - 1))
def test_nothing_is_admitted_twice_whatever_came_between(sequences: list[int], boot: int) -> None:
    seen, _ = admitted(Seen(), boot, sequences)
    assert not any(admitted(seen, boot, sequences)[1])


@given(boot=st.integers(1, 100), earlier=st.integers(0, 99), sequence=st.integers(0, 2**63))
def test_an_older_boot_is_never_admitted(boot: int, earlier: int, sequence: int) -> None:
    seen, _ = admit(Seen(), boot, 1)
    older = min(earlier, boot - 1)
    assert admit(seen, older, sequence) == (seen, False)


@given(sequences=SEQUENCES)
def test_a_new_boot_starts_with_an_empty_window(sequences: list[int]) -> None:
    seen, _ = admitted(Seen(), 1, sequences)
    once = sorted(set(sequences))[-WINDOW:]
    assert all(admitted(seen, 2, once)[1])


@given(sequences=SEQUENCES)
def test_the_will_is_new_within_its_boot_and_spends_no_number(sequences: list[int]) -> None:
    seen, _ = admitted(Seen(), 3, sequences)
    assert admit(seen, 3, WILL_SEQUENCE) == (replace_boot(seen, 3), True)
    assert not admit(admit(seen, 4, 1)[0], 3, WILL_SEQUENCE)[1]


def replace_boot(seen: Seen, boot: int) -> Seen:
    return Seen(boot, seen.highest, seen.bits)


@given(sequence=st.integers(1, 2**62), back=st.integers(0, 3 * WINDOW))
def test_a_restarted_receiver_takes_only_what_is_higher(sequence: int, back: int) -> None:
    seen = everything_up_to(5, sequence)
    assert not admit(seen, 5, max(1, sequence - back))[1]
    assert admit(seen, 5, sequence + 1)[1]


@given(ahead=st.integers(1, 2**63))
def test_the_memory_is_bounded_however_far_a_number_leaps(ahead: int) -> None:
    seen, new = admit(everything_up_to(1, 7), 1, 7 + ahead)
    assert new and seen.bits < 1 << WINDOW
