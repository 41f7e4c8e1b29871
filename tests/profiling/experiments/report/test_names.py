from __future__ import annotations

import pytest

from profiling.experiments.registry import METHODS
from profiling.experiments.report import names


@pytest.mark.parametrize("name", [names.PRODUCT, names.PUBLISHED, names.BASELINE, names.FLOOR, *names.STRONG])
def test_every_method_that_reports_look_for_is_in_the_registry(name: str) -> None:
    assert name in METHODS
