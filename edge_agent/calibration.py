"""Calibration of the loss to the frequencies of the classes in a device's own data.

A device that has few classes learns most of all which classes it has: that moves every example towards these, and it is
wrong for all other devices. Adding `strength * log(share of the class)` to the logits while training takes that part
away; what is left to learn is what tells its classes apart (Menon et al., "Long-tail learning via logit adjustment",
arXiv 2007.07314, eq. 9; between the clients of a fleet: Zhang et al., arXiv 2209.00189).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ABSENT = 1e-4
"""Examples that a class without any counts for: its logarithm must be finite."""


def log_prior(labels: npt.NDArray[np.int32], classes: int, strength: float) -> npt.NDArray[np.float32] | None:
    """What to add to the logits `(classes,)` while training on examples of `labels`; None at strength 0."""
    if not strength:
        return None
    counts = np.maximum(np.bincount(labels, minlength=classes), ABSENT)
    prior: npt.NDArray[np.float32] = (strength * np.log(counts / len(labels))).astype(np.float32)
    return prior
