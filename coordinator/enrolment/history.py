"""What a device has contributed to a fleet's model, for whoever revokes it."""

from __future__ import annotations

from pathlib import Path

from coordinator.run import DATABASE
from coordinator.store import Store


def past_rounds(run_dir: Path, device: str) -> tuple[int, ...]:
    """The closed rounds in which an update of `device` counted; none where the run has not begun.

    Raises:
        StoreError: the run's database cannot be read.
    """
    path = run_dir / DATABASE
    if not path.exists():
        return ()
    store = Store(path, read_only=True)
    try:
        return store.counted(device)
    finally:
        store.close()
