"""All methods by the names that configurations and results give them."""

from __future__ import annotations

from collections.abc import Callable

from .method import Method
from .methods.adalora import AdaLora
from .methods.fedara import FedAra
from .methods.federa import FeDeRa
from .methods.fedex_lora import FedExLora
from .methods.fedlora import FedLora
from .methods.ffa_lora import FfaLora
from .methods.flexlora import FlexLora
from .methods.flora import Flora
from .methods.head import HeadAlone
from .methods.hetlora import HetLora
from .methods.lora_a2 import LoraA2
from .methods.slora import SLora
from .settings import PRODUCT

METHODS: dict[str, Callable[[], Method]] = {
    PRODUCT: FedAra,
    "adalora": AdaLora,
    "fedara": FedAra,
    "federa": FeDeRa,
    "fedex_lora": FedExLora,
    "fedlora": FedLora,
    "ffa_lora": FfaLora,
    "flexlora": FlexLora,
    "flora": Flora,
    "head": HeadAlone,
    "hetlora": HetLora,
    "lora_a2": LoraA2,
    "slora": SLora,
}
