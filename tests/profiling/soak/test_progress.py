from __future__ import annotations

import io

from profiling.experiments.progress import Screen
from profiling.soak.progress import Progress


def test_some_lines_stay_and_tell_the_time_that_is_left() -> None:
    stream = io.StringIO()
    progress = Progress(Screen(stream), 40)
    for number in range(1, 41):
        progress(number, 3.0 * number)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 20
    assert lines[9] == "round 20 of 40 closed after 1 min 0 s; about 1 min 0 s left"
