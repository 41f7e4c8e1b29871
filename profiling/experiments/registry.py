"""All methods by the names that configurations and results give them."""

from __future__ import annotations

from collections.abc import Callable

from .method import Method
from .methods.fedara import FedAra
from .methods.fedlora import FedLora

METHODS: dict[str, Callable[[], Method]] = {
    "fedara": FedAra,
    "fedlora": FedLora,
}
