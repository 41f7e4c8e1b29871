"""The same seed and the same recorded capabilities give the same model, bit for bit, in other processes and orders."""

from __future__ import annotations

from pathlib import Path

from tests.system.fleet import Settings, fleet


def test_a_run_repeats_bit_for_bit_from_its_seed_and_its_recorded_capabilities(tmp_path: Path) -> None:
    with fleet(tmp_path / "measured") as first:
        first.run()
        recorded = first.record_capabilities(tmp_path / "capabilities.json")
    with fleet(tmp_path / "replayed", Settings(capabilities=recorded)) as second:
        second.run()
    with fleet(tmp_path / "other", Settings(capabilities=recorded, seed=1)) as third:
        third.run()
    assert (first.final_state().mask == second.final_state().mask).all()
    assert first.checkpoint() == second.checkpoint()
    assert [record.loss for record in first.records()] == [record.loss for record in second.records()]
    assert first.checkpoint() != third.checkpoint()
    assert (first.final_state().mask != third.final_state().mask).any()
