"""Whether this board is a Jetson, whose CUDA device has no memory of its own: it takes that of the system."""

from __future__ import annotations

from pathlib import Path

from edge_agent.wire.errors import BudgetError

COMPATIBLE = "proc/device-tree/compatible"
RELEASE = "etc/nv_tegra_release"
_FAMILY = b"nvidia,tegra"


def is_jetson(root: Path = Path("/")) -> bool:
    """By the device tree, or by what Jetson Linux leaves in `/etc`; a container may have only one of the two."""
    if (root / RELEASE).exists():
        return True
    try:
        return _FAMILY in (root / COMPATIBLE).read_bytes()
    except OSError:
        return False


def cuda_share(limit_bytes: int, own_bytes: int, total_bytes: int) -> float:
    """The share of `total_bytes`, all memory of the device, that CUDA may take of the `limit_bytes` of this process.

    `own_bytes` are what the process holds already.

    Raises:
        BudgetError: nothing is left; names what the process holds, with the least that can be shared out.
    """
    left_bytes = limit_bytes - own_bytes
    if left_bytes <= 0:
        raise BudgetError(
            f"memory.budget_bytes leaves {limit_bytes} bytes to the trainer process, which holds {own_bytes} before it "
            'uses CUDA: raise it, or set engine = "onnx"',
            own_bytes + 1,
        )
    return min(1.0, left_bytes / total_bytes)
