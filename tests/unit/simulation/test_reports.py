"""A report counts what happened, and its pictures show it."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from mesh.simulation.plot import CURVES, blocks, svg, terminal
from mesh.simulation.report import Moment, Report, spread


def report() -> Report:
    moments = [
        Moment(10.0, calls=4, hits=1, errors=1, loads=2, copies=2, resident=2, used=1 << 20),
        Moment(20.0, calls=4, hits=4, evictions=1, copies=4, resident=3, used=3 << 20),
    ]
    return Report({"policy": "mesh"}, moments, first=[1.0, 3.0, 2.0], others=[0.01], notes=["n"])


def test_totals_shares_and_times_are_of_all_moments() -> None:
    told = report().to_json()
    assert (told["calls"], told["hits"], told["errors"], told["loads"], told["evictions"]) == (8, 5, 1, 2, 1)
    assert told["hitRate"] == 0.625
    assert told["timeToFirstInferenceMs"] == {"median": 2000, "p95": 3000, "p99": 3000, "most": 3000, "mean": 2000}
    assert told["copies"] == {"mean": 3.0, "end": 4}
    assert told["residentModels"] == {"most": 3, "end": 3}
    assert told["usedBytes"] == {"most": 3 << 20, "end": 3 << 20}
    assert [moment["at"] for moment in told["overTime"]] == [10.0, 20.0]
    assert json.loads(json.dumps(told)) == told


def test_without_a_call_there_is_no_rate_and_no_time() -> None:
    empty = Report({}, [Moment(1.0)])
    assert (empty.hit_rate, empty.to_json()["timeToFirstInferenceMs"]) == (0.0, None)
    assert spread([]) is None
    assert terminal(empty)


def test_columns_of_blocks_are_as_high_as_their_values() -> None:
    assert blocks([0, 1, 2, 4, 8], 8, rows=1) == [" ▁▂▄█"]
    assert blocks([8, 12, 16, 99], 16, rows=2) == [" ▄██", "████"]
    assert blocks([0, 0], 0, rows=1) == ["  "]


def test_a_terminal_shows_every_curve_with_its_unit() -> None:
    lines = terminal(report())
    assert [line for line in lines if not line.startswith(" ")] == [
        "hit rate, up to 100 %",
        "calls, up to 4",
        "loads, up to 2",
        "evictions, up to 1",
        "copies, up to 4",
        "memory used, up to 3 MiB",
    ]
    assert lines[1:5] == ["  │ █", "  │ █", "  │ █", "  │██"]


def test_a_drawing_is_well_formed_and_has_a_line_for_every_curve() -> None:
    drawn = ElementTree.fromstring(svg(report(), "a <trace> & more"))
    space = "{http://www.w3.org/2000/svg}"
    lines = drawn.findall(f"{space}polyline")
    assert len(lines) == len(CURVES)
    texts = [text.text for text in drawn.findall(f"{space}text")]
    assert "a <trace> & more" in texts
    assert {curve.title for curve in CURVES} <= set(texts)
    first, second = (float(point.split(",")[1]) for point in lines[0].get("points", "").split())
    assert first > second, "a higher hit rate is drawn higher"
