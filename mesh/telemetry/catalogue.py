"""Every metric by name, labels, buckets and meaning. Names are KServe ModelMesh's where it had one, so that dashboards go on working."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

CALL_LABELS = ("method", "code")
MODEL_LABELS = ("modelId", "vModelId")
"""Added to the histograms of models and calls with `per_model_metrics=true`; a missing value is empty."""

TIMES = (0.5, 1, 2, 5, 10, 20, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 60000, 120000, 300000)
"""Upper bounds of durations, in milliseconds (reference 10.2)."""
_SECOND, _HOUR = 1000, 3_600_000
AGES = tuple(
    float(age)
    for age in (30 * _SECOND, 300 * _SECOND, 900 * _SECOND, *(hours * _HOUR for hours in (1, 4, 12, 24, 7 * 24, 30 * 24, 90 * 24)))
)
"""Upper bounds of the time since a model's last use, 30 s to 90 days, in milliseconds (reference 10.2)."""
MODEL_SIZES = tuple(262144 * 4**power for power in range(8))
"""Upper bounds of models' sizes, 256 KiB to 4 GiB, in bytes (reference 10.2)."""
MESSAGE_SIZES = tuple(128 * 4**power for power in range(8))
"""Upper bounds of messages' sizes, 128 bytes to 2 MiB, in bytes (reference 10.2)."""


class Kind(Enum):
    """Types of the Prometheus text format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, eq=False, slots=True)
class Family:
    """One metric.

    Attributes:
        labels: that all its series have.
        per_model: whether the labels of models are added on request.
        buckets: upper bounds of a histogram, ascending, in the unit of its name; the infinite one is understood.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    per_model: bool = False
    buckets: tuple[float, ...] = ()


def _of_calls(name: str, buckets: tuple[float, ...], meaning: str) -> Family:
    return Family(name, Kind.HISTOGRAM, meaning, CALL_LABELS, True, buckets)


def _of_models(name: str, buckets: tuple[float, ...], meaning: str) -> Family:
    return Family(name, Kind.HISTOGRAM, meaning, (), True, buckets)


API_REQUEST = _of_calls("modelmesh_api_request_milliseconds", TIMES, "calls at the door they came through, whatever their code")
INVOKE_MODEL = _of_calls("modelmesh_invoke_model_milliseconds", TIMES, "calls of the runtime, at the pod that served them")
REQUEST_SIZE = _of_calls("modelmesh_request_size_bytes", MESSAGE_SIZES, "request messages at the door they came through")
RESPONSE_SIZE = _of_calls("modelmesh_response_size_bytes", MESSAGE_SIZES, "response messages, where there was one")
CACHE_MISS = _of_models("modelmesh_cache_miss_milliseconds", TIMES, "waits of calls for their model to load")
LOAD = _of_models("modelmesh_loadmodel_milliseconds", TIMES, "successful loads")
UNLOAD = _of_models("modelmesh_unloadmodel_milliseconds", TIMES, "successful unloads")
REQUEST_QUEUE = _of_models("modelmesh_req_queue_delay_milliseconds", TIMES, "waits of calls for a turn on their copy")
LOADING_QUEUE = _of_models("modelmesh_loading_queue_delay_milliseconds", TIMES, "waits of loads for their turn")
SIZING = _of_models("modelmesh_model_sizing_milliseconds", TIMES, "measurements of models' sizes by the runtime")
EVICTION_AGE = _of_models("modelmesh_age_at_eviction_milliseconds", AGES, "time since the last use of evicted models")
MODEL_SIZE = _of_models("modelmesh_loaded_model_size_bytes", MODEL_SIZES, "sizes of loaded models")
LOOP_LAG = Family("mesh_loop_lag_milliseconds", Kind.HISTOGRAM, "how late the event loop runs what is due", buckets=TIMES)

LOAD_FAILURE = Family("modelmesh_loadmodel_failure", Kind.COUNTER, "failed loads")
UNLOAD_FAILURE = Family("modelmesh_unloadmodel_failure", Kind.COUNTER, "unloads that were given up")
UNLOAD_ATTEMPT_FAILURE = Family("modelmesh_unloadmodel_attempt_failure", Kind.COUNTER, "failed attempts to unload")

LRU = Family("modelmesh_instance_lru_seconds", Kind.GAUGE, "last use of this pod's least recently used model, seconds since 1970")
LRU_AGE = Family("modelmesh_instance_lru_age_seconds", Kind.GAUGE, "time since that use; 0 without models")
CAPACITY = Family("modelmesh_instance_capacity_bytes", Kind.GAUGE, "memory for models, without what is kept free for unloads")
USED = Family("modelmesh_instance_used_bytes", Kind.GAUGE, "memory that models use")
USED_BPS = Family("modelmesh_instance_used_bps", Kind.GAUGE, "the same in ten thousandths of the capacity")
MODELS = Family("modelmesh_instance_models_total", Kind.GAUGE, "models in this pod")
MODELS_LOADED = Family("modelmesh_models_loaded_total", Kind.GAUGE, "models that are loaded somewhere; told by the leader only")
MODELS_FAILED = Family("modelmesh_models_with_failure_total", Kind.GAUGE, "models with a failed load; told by the leader only")
MODELS_MANAGED = Family("modelmesh_models_managed_total", Kind.GAUGE, "registered models; told by the leader only")

HISTOGRAMS = (
    *(API_REQUEST, INVOKE_MODEL, REQUEST_SIZE, RESPONSE_SIZE, CACHE_MISS, LOAD, UNLOAD),
    *(REQUEST_QUEUE, LOADING_QUEUE, SIZING, EVICTION_AGE, MODEL_SIZE, LOOP_LAG),
)
COUNTERS = (LOAD_FAILURE, UNLOAD_FAILURE, UNLOAD_ATTEMPT_FAILURE)
GAUGES = (LRU, LRU_AGE, CAPACITY, USED, USED_BPS, MODELS, MODELS_LOADED, MODELS_FAILED, MODELS_MANAGED)
ALL = HISTOGRAMS + COUNTERS + GAUGES
