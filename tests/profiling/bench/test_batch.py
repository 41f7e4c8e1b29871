from __future__ import annotations

import numpy as np

from profiling.bench.batch import random_batch
from profiling.bench.spec import CLASSES, Work


def test_the_batch_is_the_same_for_the_same_seed_and_in_range() -> None:
    work = Work(batch=8, tokens=16, rank=2, threads=1, seed=3)
    ids, labels = random_batch(work, 50)
    assert ids.shape == (8, 16) and labels.shape == (8,)
    assert 0 <= ids.min() <= ids.max() < 50
    assert 0 <= labels.min() <= labels.max() < CLASSES
    again, other = random_batch(work, 50)[0], random_batch(Work(8, 16, 2, 1, 4), 50)[0]
    assert np.array_equal(ids, again) and not np.array_equal(ids, other)
