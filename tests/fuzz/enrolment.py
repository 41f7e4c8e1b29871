"""What the enrolment service takes from the network, up to the desk's database. The function returns or refuses."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from pathlib import Path

from coordinator.enrolment import http, views
from coordinator.enrolment.service import Submission
from tests.coordinator.enrolment.fleets import NOW, Told, desk_in


def submission(folder: Path) -> Callable[[bytes], None]:
    """A board's request, up to its pending state; whatever its token says, it gets one that is right."""
    desk = desk_in(folder, Told())
    atexit.register(desk.registry.close)

    def decode(data: bytes) -> None:
        asked = http.convert(data, Submission)
        request = desk.submit(desk.issue_token(NOW), asked.device, asked.request.encode(), NOW)
        assert views.answer(request).state == "pending"

    return decode
