from __future__ import annotations

from edge_agent.doctor.finding import Finding


def test_a_finding_says_what_to_do_below_what_it_is() -> None:
    assert Finding("swap", "warning", "on /dev/sda2", "Use zram.").lines() == (
        "WARNING swap: on /dev/sda2\n        Use zram."
    )
    assert Finding("swap", "ok", "none").lines() == "ok      swap: none"
