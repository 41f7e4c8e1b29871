from __future__ import annotations

from profiling.soak.faults import PER_DEVICE_S, PER_MESSAGE, PER_TRAINING, Fault, Faults


def drawn(seed: int, rate: float, count: int = 4000) -> list[Fault | None]:
    faults = Faults(seed, rate)
    return [faults.of(PER_MESSAGE) for _ in range(count)]


def test_the_same_seed_draws_the_same_faults_and_another_others() -> None:
    assert drawn(1, 3.0) == drawn(1, 3.0) != drawn(2, 3.0)


def test_faults_come_as_often_as_their_table_says_and_are_counted() -> None:
    faults = Faults(0, 10.0)
    for _ in range(20_000):
        faults.of(PER_MESSAGE)
    for fault, probability in PER_MESSAGE.items():
        assert abs(faults.counts[fault] / 20_000 - 10 * probability) < 0.01


def test_without_a_rate_nothing_goes_wrong() -> None:
    assert set(drawn(0, 0.0)) == {None}


def test_more_devices_meet_with_faults_sooner() -> None:
    def mean_s(devices: int) -> float:
        faults = Faults(0, 1.0)
        return sum(faults.pause_s(Fault.CUT, devices) for _ in range(2000)) / 2000

    assert abs(mean_s(1) * PER_DEVICE_S[Fault.CUT] - 1) < 0.1
    assert abs(mean_s(100) * 100 / mean_s(1) - 1) < 1e-6


def test_every_fault_is_in_one_table_or_is_what_happens_to_the_coordinator() -> None:
    tables = [*PER_MESSAGE, *PER_TRAINING, *PER_DEVICE_S]
    assert len(tables) == len(set(tables))
    assert set(Fault) - set(tables) == {Fault.STOPPED, Fault.CRASHED}
