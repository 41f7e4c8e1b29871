"""Which boards are Jetsons, told by a file-system root that is planted, and how the budget is shared out there."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.jetson import COMPATIBLE, RELEASE, cuda_share, is_jetson
from edge_agent.wire.errors import BudgetError

ORIN_NANO = b"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0"
RASPBERRY_PI = b"raspberrypi,5-model-b\0brcm,bcm2712\0"


def planted(root: Path, name: str, content: bytes) -> Path:
    (root / name).parent.mkdir(parents=True)
    (root / name).write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (COMPATIBLE, ORIN_NANO, True),
        (COMPATIBLE, RASPBERRY_PI, False),
        (RELEASE, b"# R36 (release), REVISION: 4.3", True),
        ("etc/os-release", b"ID=ubuntu", False),
    ],
)
def test_a_jetson_is_known_by_its_device_tree_or_its_release(
    tmp_path: Path, name: str, content: bytes, expected: bool
) -> None:
    assert is_jetson(planted(tmp_path, name, content)) is expected


def test_cuda_may_take_what_the_process_does_not_hold_yet() -> None:
    assert cuda_share(3_000, 1_000, 8_000) == 0.25
    assert cuda_share(90_000, 1_000, 8_000) == 1.0


def test_where_nothing_is_left_that_is_said() -> None:
    with pytest.raises(BudgetError, match="leaves 1000 bytes to the trainer process, which holds 1000") as caught:
        cuda_share(1_000, 1_000, 8_000)
    assert caught.value.smallest_budget_bytes == 1_001
