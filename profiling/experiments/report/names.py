"""The methods that reports set others against, by their names in the registry."""

from __future__ import annotations

PRODUCT = "rankfleet"
"""The product's default."""
PUBLISHED = "fedara"
"""FedARA as published."""
BASELINE = "fedlora"
STRONG = ("ffa_lora", "flexlora", "fedex_lora", "lora_a2")
FLOOR = "head"
"""Trains no ranks: so cheap that accuracy at equal bytes would compare the others before their first round."""
