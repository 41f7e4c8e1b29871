"""The dashboard for Grafana: well-formed, without panels that overlap, and of metrics and labels that exist."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from coordinator.web.metrics import families
from tests.coordinator.web.test_metrics import FULL

FILE = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "rankfleet.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
VARIABLES = {one["name"]: one for one in BOARD["templating"]["list"]}


def test_it_names_metrics_that_exist_and_all_that_a_fleet_has_of_devices() -> None:
    known = {one.name for one in families(FULL)}
    asked = {name for query in QUERIES for name in re.findall(r"rankfleet_\w+", query)}
    assert asked and asked <= known
    of_variables = {name for one in VARIABLES.values() for name in re.findall(r"rankfleet_\w+", str(one["query"]))}
    assert of_variables <= known


def test_every_label_is_one_of_its_metric() -> None:
    labels = {one.name: {label for found, _ in one.samples for label in found} for one in families(FULL)}
    for query in QUERIES:
        for name, matchers in re.findall(r"(rankfleet_\w+)\{([^}]*)\}", query):
            named = set(re.findall(r"(\w+)\s*=~?", matchers)) - {"instance"}
            assert named <= (labels[name] or {"device"}), query


def test_counters_are_looked_at_by_their_rate_or_as_they_stand() -> None:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            if "_bytes_total" in target["expr"]:
                assert target["expr"].startswith("rate("), target


def test_panels_have_numbers_and_places_of_their_own() -> None:
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    for left, right in itertools.combinations((panel["gridPos"] for panel in BOARD["panels"]), 2):
        apart_x = left["x"] + left["w"] <= right["x"] or right["x"] + right["w"] <= left["x"]
        apart_y = left["y"] + left["h"] <= right["y"] or right["y"] + right["h"] <= left["y"]
        assert apart_x or apart_y, (left, right)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in BOARD["panels"])


def test_every_variable_that_is_used_is_defined() -> None:
    used = set(re.findall(r"\$\{?([a-z]+)\}?", FILE.read_text(encoding="utf-8")))
    assert used <= VARIABLES.keys(), used
