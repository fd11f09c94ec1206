"""The Grafana dashboard asks for what pods tell."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mesh.telemetry import catalogue
from mesh.telemetry.catalogue import Family, Kind
from tests.unit.docker.files import FOLDER

DASHBOARD = json.loads((FOLDER / "grafana" / "model-mesh.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
GIVEN_BY_PROMETHEUS = {"job", "instance", "le"}
SELECTOR = re.compile(r"\b([a-z]\w*)\{([^{}]*)\}")


def samples() -> dict[str, Family]:
    """Every name of a sample that Prometheus can know."""
    found: dict[str, Family] = {}
    for family in catalogue.ALL:
        endings = ("_bucket", "_count", "_sum") if family.kind is Kind.HISTOGRAM else ("",)
        found.update({f"{name}{ending}": family for name in filter(None, (family.name, family.also)) for ending in endings})
    return found


def test_the_file_is_a_dashboard() -> None:
    assert {"title", "uid", "schemaVersion", "panels", "templating"} <= DASHBOARD.keys()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {"${datasource}"}


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[f"{title}-{n}" for n, (title, _) in enumerate(EXPRESSIONS)])
def test_each_expression_asks_for_metrics_and_labels_that_exist(title: str, expression: str) -> None:
    known = samples()
    selectors = SELECTOR.findall(expression)
    assert selectors, "it asks for a metric, restricted to the chosen pods"
    assert expression.count("(") == expression.count(")")
    rest = SELECTOR.sub("", expression)
    assert not re.findall(r"\bm(?:odelm)?esh_\w+", rest), "each metric is restricted"
    for name, matchers in selectors:
        assert name in known
        labels = set(re.findall(r"(\w+)=", matchers)) | {
            part.strip() for by in re.findall(r"by \(([^)]*)\)", rest) for part in by.split(",")
        }
        assert {"job", "instance"} <= labels
        assert labels <= {*GIVEN_BY_PROMETHEUS, *known[name].labels}
        counts = known[name].kind is not Kind.GAUGE
        assert counts == (f"rate({name}" in expression), "what only grows is told as a rate, and nothing else is"


def test_every_metric_of_modelmesh_has_a_panel() -> None:
    asked = {name for _, expression in EXPRESSIONS for name, _ in SELECTOR.findall(expression)}
    known = samples()
    inherited = {family.name for family in catalogue.ALL if family.statsd is not None}
    assert inherited - {known[name].name for name in asked} == {"modelmesh_instance_lru_seconds"}, "the age says the same"
