"""What happened is counted under ModelMesh's names, and Prometheus can read it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mesh.core.errors import Code, Overloaded
from mesh.telemetry import catalogue
from mesh.telemetry import metrics as facade
from mesh.telemetry.catalogue import Kind
from mesh.telemetry.lag import watch_lag
from mesh.telemetry.metrics import Gauges, Metrics
from mesh.telemetry.options import Options
from tests.proof import metrics_page

INFER = "inference.GRPCInferenceService/ModelInfer"
Labels = frozenset[tuple[str, str]]


def text_of(metrics: Metrics, *names: str) -> str:
    return "".join(metrics.exposition(names))


def samples(metrics: Metrics, *names: str) -> dict[tuple[str, Labels], float]:
    """Every line as Prometheus reads it. The parser gives counters the suffix of OpenMetrics; the lines themselves have none."""
    found: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text_of(metrics, *names)):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            # The two spellings of a counter are one for the parser.
            assert found.get(key, sample.value) == sample.value
            found[key] = sample.value
    return found


def values_of(metrics: Metrics, name: str, **wanted: str) -> float:
    return samples(metrics, name)[name, labels(**wanted)]


def labels(**values: str) -> Labels:
    return frozenset(values.items())


# Calls


def test_calls_are_counted_by_method_and_code() -> None:
    metrics = Metrics(Options())
    for ms in (0.4, 0.5, 0.6, 299_999, 1_000_000):
        metrics.api_request(INFER, Code.OK, ms, "m", "a")
    metrics.api_request("/" + INFER, Code.NOT_FOUND, 1)
    found = samples(metrics)
    name = "modelmesh_api_request_milliseconds"
    buckets = {end: found[f"{name}_bucket", labels(method="ModelInfer", code="OK", le=end)] for end in ("0.5", "1.0", "300000.0", "+Inf")}
    assert buckets == {"0.5": 2, "1.0": 3, "300000.0": 4, "+Inf": 5}
    assert found[f"{name}_count", labels(method="ModelInfer", code="OK")] == 5
    assert found[f"{name}_sum", labels(method="ModelInfer", code="OK")] == pytest.approx(1_300_000.5)
    assert found[f"{name}_count", labels(method="ModelInfer", code="NOT_FOUND")] == 1


def test_methods_with_one_short_name_are_one_series_unless_full_names_are_wanted() -> None:
    short, full = Metrics(Options()), Metrics(Options(full_names=True))
    for metrics in (short, full):
        metrics.invoke("a.A/Predict", Code.OK, 1)
        metrics.invoke("b.B/Predict", Code.OK, 1)
    name = "modelmesh_invoke_model_milliseconds_count"
    assert samples(short, name) == {(name, labels(method="Predict", code="OK")): 2}
    assert samples(full, name) == {(name, labels(method=f"{one}/Predict", code="OK")): 1 for one in ("a.A", "b.B")}


def test_models_and_aliases_are_labels_on_request() -> None:
    metrics = Metrics(Options(per_model=True))
    metrics.api_request(INFER, Code.OK, 1, "m", "a")
    metrics.invoke(INFER, Code.OK, 1, "m")
    metrics.request_size(INFER, Code.OK, 128)
    metrics.response_size(INFER, Code.OK, 129, "m", "a")
    metrics.cache_miss(1, "m")
    counts = {key: value for key, value in samples(metrics).items() if key[0].endswith("_count") and value}
    call = {"method": "ModelInfer", "code": "OK"}
    assert counts == {
        ("modelmesh_api_request_milliseconds_count", labels(**call, modelId="m", vModelId="a")): 1,
        ("modelmesh_invoke_model_milliseconds_count", labels(**call, modelId="m", vModelId="")): 1,
        ("modelmesh_request_size_bytes_count", labels(**call, modelId="", vModelId="")): 1,
        ("modelmesh_response_size_bytes_count", labels(**call, modelId="m", vModelId="a")): 1,
        ("modelmesh_cache_miss_milliseconds_count", labels(modelId="m", vModelId="")): 1,
    }


def test_methods_without_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facade, "MOST_METHODS", 3)
    metrics = Metrics(Options())
    for number in range(10):
        metrics.api_request(f"a.A/{number}", Code.OK, 1)
    metrics.api_request("a.A/" + 300 * "x", Code.OK, 1)
    name = "modelmesh_api_request_milliseconds_count"
    assert samples(metrics, name) == {
        **{(name, labels(method=str(n), code="OK")): 1 for n in range(3)},
        (name, labels(method="other", code="OK")): 8,
    }


def test_beyond_the_bound_the_series_of_models_that_are_longest_unused_go(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(Options(per_model=True), most_series=4)
    for model in "abc":
        metrics.load(1, model)
    metrics.invoke(INFER, Code.OK, 1, "a")
    metrics.load(2, "a")
    for model in "de":
        metrics.load(1, model)
    count, dropped = "modelmesh_loadmodel_milliseconds_count", "mesh_series_dropped_total"
    assert samples(metrics, count, dropped) == {
        (dropped, labels()): 2,
        (count, labels(modelId="a", vModelId="")): 2,
        (count, labels(modelId="d", vModelId="")): 1,
        (count, labels(modelId="e", vModelId="")): 1,
    }
    metrics.load(1, "b")
    assert samples(metrics, count)[count, labels(modelId="b", vModelId="")] == 1, "what comes back begins anew"
    (warning,) = caplog.records
    assert "more than 4 series of models" in warning.getMessage()
    assert "MESH_MAX_PER_MODEL_SERIES" in warning.getMessage()


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60), st.integers(1, 8))
def test_no_more_series_than_the_bound_and_each_counts_since_it_came(happenings: list[tuple[str, bool]], most: int) -> None:
    metrics = Metrics(Options(per_model=True), most_series=most)
    expected: dict[tuple[str, str], int] = {}
    load, unload = "modelmesh_loadmodel_milliseconds_count", "modelmesh_unloadmodel_milliseconds_count"
    for model, loaded in happenings:
        key = (load if loaded else unload, model)
        before = expected.pop(key, 0)
        if not before and len(expected) == most:
            del expected[next(iter(expected))]
        expected[key] = before + 1
        (metrics.load if loaded else metrics.unload)(1, model)
    found = samples(metrics, load, unload)
    assert {(name, dict(pairs)["modelId"]): value for (name, pairs), value in found.items()} == expected


@given(st.text(), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_can_be_a_label(method: str, model: str) -> None:
    metrics = Metrics(Options(per_model=True, full_names=True))
    metrics.api_request("a.A/" + method.replace("\r", ""), Code.OK, 1, model, '\\n"\n\\')
    text = text_of(metrics, "modelmesh_api_request_milliseconds_count")
    (family,) = text_string_to_metric_families(text)
    (sample,) = family.samples
    assert sample.labels["modelId"] == model
    assert sample.labels["vModelId"] == '\\n"\n\\'


# Models


def test_each_happening_has_its_metric() -> None:
    metrics = Metrics(Options())
    metrics.cache_miss(11)
    metrics.load(12)
    metrics.unload(13)
    metrics.queue_delay(14)
    metrics.loading_queue_delay(15)
    metrics.sizing(16)
    metrics.evicted(17)
    metrics.evicted(0, reason="growth")
    metrics.model_size(18)
    metrics.loop_lag(19)
    metrics.load_failed()
    metrics.unload_failed()
    metrics.unload_failed()
    for _ in range(3):
        metrics.unload_attempt_failed()
    values = {name: value for (name, _), value in samples(metrics).items() if not name.endswith("_bucket") and value}
    assert {name: value for name, value in values.items() if name.endswith("_sum")} == {
        "modelmesh_cache_miss_milliseconds_sum": 11,
        "modelmesh_loadmodel_milliseconds_sum": 12,
        "modelmesh_unloadmodel_milliseconds_sum": 13,
        "modelmesh_req_queue_delay_milliseconds_sum": 14,
        "modelmesh_loading_queue_delay_milliseconds_sum": 15,
        "modelmesh_model_sizing_milliseconds_sum": 16,
        "modelmesh_age_at_eviction_milliseconds_sum": 17,
        "modelmesh_loaded_model_size_bytes_sum": 18,
        "mesh_loop_lag_milliseconds_sum": 19,
    }
    assert [values_of(metrics, "mesh_evictions_total", reason=reason) for reason in ("room", "growth")] == [1, 1]
    for name in ("modelmesh_loadmodel_failure", "modelmesh_loadmodel_failure_total"):
        assert f"\n# TYPE {name} counter\n{name} 1.0\n" in text_of(metrics)
    assert "\nmodelmesh_unloadmodel_failure 2.0\n" in text_of(metrics)
    assert "\nmodelmesh_unloadmodel_attempt_failure 3.0\n" in text_of(metrics)


def test_what_has_no_labels_is_there_from_the_start_at_zero() -> None:
    found = samples(Metrics(Options()))
    assert found["modelmesh_loadmodel_milliseconds_bucket", labels(le="+Inf")] == 0
    assert found["modelmesh_loadmodel_failure_total", labels()] == 0
    assert not [name for name, _ in found if name.startswith("modelmesh_api_request")]


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        (
            catalogue.LOAD,
            "0.5 1.0 2.0 5.0 10.0 20.0 50.0 75.0 100.0 200.0 500.0 1000.0 2000.0 5000.0 10000.0 20000.0 60000.0 120000.0 300000.0 +Inf",
        ),
        (catalogue.EVICTION_AGE, "30000.0 300000.0 900000.0 3600000.0 1.44E7 4.32E7 8.64E7 6.048E8 2.592E9 7.776E9 +Inf"),
        (catalogue.MODEL_SIZE, "262144.0 1048576.0 4194304.0 1.6777216E7 6.7108864E7 2.68435456E8 1.073741824E9 4.294967296E9 +Inf"),
    ],
)
def test_bounds_are_written_as_the_pods_of_modelmesh_write_them(family: catalogue.Family, ends: str) -> None:
    assert re.findall(r'le="([^"]+)"', text_of(Metrics(Options()), family.name)) == ends.split()


# Gauges


def test_gauges_tell_the_moment_of_the_scrape() -> None:
    metrics, models = Metrics(Options()), [3]
    metrics.gauges_from(lambda: Gauges(lru=1_700_000_000.5, lru_age=12, capacity=1000, used=333, models=models[0]))
    found = samples(metrics)
    assert {name.removeprefix("modelmesh_instance_"): value for (name, _), value in found.items() if "_instance_" in name} == {
        "lru_seconds": 1_700_000_000.5,
        "lru_age_seconds": 12,
        "capacity_bytes": 1000,
        "used_bytes": 333,
        "used_bps": 3330,
        "models_total": 3,
    }
    assert not [name for name, _ in found if name.startswith("modelmesh_models_")]
    models[0] = 4
    assert samples(metrics)["modelmesh_instance_models_total", labels()] == 4


def test_an_empty_pod_and_a_leader() -> None:
    metrics = Metrics(Options())
    metrics.gauges_from(lambda: Gauges(lru=None, lru_age=7, capacity=0, used=0, models=0, loaded=0, failed=1, managed=2))
    found = {name: value for (name, _), value in samples(metrics).items()}
    assert found["modelmesh_instance_lru_seconds"] == float(9223372036854775)
    assert found["modelmesh_instance_lru_age_seconds"] == 0
    assert found["modelmesh_instance_used_bps"] == 0
    assert [found[f"modelmesh_models_{name}_total"] for name in ("loaded", "with_failure", "managed")] == [0, 1, 2]


def test_a_source_of_gauges_that_fails_costs_the_gauges_only(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(Options())
    metrics.load(1)
    metrics.gauges_from(lambda: Gauges(None, 0, 0, 0, 1 // 0))
    found = samples(metrics)
    assert found["modelmesh_loadmodel_milliseconds_count", labels()] == 1
    assert not [name for name, _ in found if "_instance_" in name]
    assert "the gauges are left out" in caplog.text


def test_what_others_keep_is_read_at_each_scrape(caplog: pytest.LogCaptureFixture) -> None:
    metrics, kept = Metrics(Options()), {"overloaded": 1.0}
    metrics.read(catalogue.REFUSALS, lambda: kept)
    metrics.read(catalogue.UNREGISTERED, lambda: None)
    metrics.read(catalogue.OUTAGE, lambda: 1 // 0)
    name = "mesh_refusals_total"
    assert samples(metrics, name, "mesh_unregistered_copies") == {(name, labels(**{"class": "overloaded"})): 1}
    kept["unknown"] = 2
    assert samples(metrics, name) == {(name, labels(**{"class": "overloaded"})): 1, (name, labels(**{"class": "unknown"})): 2}
    assert "mesh_store_outage_seconds_total is left out" in caplog.text


def test_errors_of_the_mesh_are_counted_by_class() -> None:
    metrics = Metrics(Options())
    metrics.refused(Overloaded("full"))
    metrics.refused(Overloaded("full"))
    assert samples(metrics, "mesh_refusals_total") == {("mesh_refusals_total", labels(**{"class": Overloaded.label})): 2}


def test_the_constant_gauge_is_one() -> None:
    metrics = Metrics(Options(info=("deployment_info:relabel", (("slot", 'a"b'), ("zone", "")))))
    assert samples(metrics, "deployment_info:relabel") == {("deployment_info:relabel", labels(slot='a"b', zone="")): 1}


async def test_a_busy_loop_is_seen() -> None:
    metrics = Metrics(Options())
    asyncio.get_running_loop().call_later(0.01, time.sleep, 0.05)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(watch_lag(metrics, 0.001), 0.1)
    # What was due first after the sleep began is at least 49 ms late, however slow the machine.
    assert samples(metrics)["mesh_loop_lag_milliseconds_sum", labels()] > 40


# Selection, and none at all


def test_asking_for_a_family_or_for_one_of_its_samples() -> None:
    metrics = Metrics(Options())
    assert {name for name, _ in samples(metrics, "modelmesh_loadmodel_milliseconds")} == {
        f"modelmesh_loadmodel_milliseconds_{part}" for part in ("bucket", "count", "sum")
    }
    lines = text_of(metrics, "modelmesh_loadmodel_milliseconds_sum", "modelmesh_loadmodel_failure").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "modelmesh_loadmodel_milliseconds_sum 0.0",
        "modelmesh_loadmodel_failure 0.0",
    ]
    assert samples(metrics, "no_such_metric") == {}


def test_switched_off_nothing_is_kept_and_nothing_is_told() -> None:
    metrics = Metrics(None)
    metrics.api_request(INFER, Code.OK, 1, "m", "a")
    metrics.load(1, "m")
    metrics.load_failed()
    metrics.loop_lag(1)
    metrics.gauges_from(lambda: pytest.fail("nobody asks"))
    metrics.refused(Overloaded("full"))
    assert text_of(metrics) == ""


def test_series_may_be_added_while_a_scrape_is_written() -> None:
    metrics = Metrics(Options(per_model=True))
    for number in range(100):
        metrics.load(1, f"m{number}")
    pieces = metrics.exposition(["modelmesh_loadmodel_milliseconds_count"])
    text = next(pieces) + next(pieces)
    metrics.load(1, "late")
    text += "".join(pieces)
    assert len(text.splitlines()) == 2 + 100


# The reference page


def test_the_reference_page_has_every_metric_as_it_is() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.page(metrics_page.PAGE.read_text()), "run `make docs`"
    assert all(len(family.buckets) > 0 for family in catalogue.ALL if family.kind is Kind.HISTOGRAM)


def test_the_reference_page_has_the_counters_that_only_statsd_gets() -> None:
    page = metrics_page.PAGE.read_text()
    counts = re.findall(r"^\| `(\w+)_statsd` \| `(\w+)_statsd`", page, re.MULTILINE)
    assert counts == [(family.statsd.count, family.name) for family in catalogue.HISTOGRAMS if family.statsd and family.statsd.count]
