"""All methods by the names that configurations and results give them."""

from __future__ import annotations

from collections.abc import Callable

from .method import Method
from .methods.fedara import FedAra
from .methods.fedex_lora import FedExLora
from .methods.fedlora import FedLora
from .methods.ffa_lora import FfaLora
from .methods.flexlora import FlexLora
from .methods.head import HeadAlone
from .methods.hetlora import HetLora

METHODS: dict[str, Callable[[], Method]] = {
    "fedara": FedAra,
    "fedex_lora": FedExLora,
    "fedlora": FedLora,
    "ffa_lora": FfaLora,
    "flexlora": FlexLora,
    "head": HeadAlone,
    "hetlora": HetLora,
}
