"""Every metric by name, labels, buckets and meaning. Names are KServe ModelMesh's where it had one, so that dashboards go on working."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mesh.core.units import UNIT_BYTES

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


@dataclass(frozen=True, slots=True)
class Statsd:
    """How a metric goes to StatsD (reference 10.2); its usual name there is the Prometheus name and `_statsd`.

    Attributes:
        legacy: its name with `legacy=true`, without the prefix `model-mesh.`.
        count: name of the counter that goes with a time; for calls it has all codes, the time has only OK.
        unit: a gauge is divided by this under its legacy name.
    """

    legacy: str
    count: str = ""
    unit: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class Family:
    """One metric.

    Attributes:
        labels: that all its series have.
        per_model: whether the labels of models are added on request.
        buckets: upper bounds of a histogram, ascending, in the unit of its name; the infinite one is understood.
        also: a second name of a counter.
        statsd: what StatsD gets; None if it gets nothing.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    per_model: bool = False
    buckets: tuple[float, ...] = ()
    also: str = ""
    statsd: Statsd | None = None


def _of_calls(name: str, buckets: tuple[float, ...], meaning: str, legacy: str, count: str = "") -> Family:
    return Family(name, Kind.HISTOGRAM, meaning, CALL_LABELS, True, buckets, statsd=Statsd(legacy, count))


def _of_models(name: str, buckets: tuple[float, ...], meaning: str, legacy: str, count: str = "") -> Family:
    return Family(name, Kind.HISTOGRAM, meaning, (), True, buckets, statsd=Statsd(legacy, count))


def _failures(name: str, meaning: str, legacy: str) -> Family:
    return Family(name, Kind.COUNTER, meaning, also=f"{name}_total", statsd=Statsd(legacy))


def _gauge(name: str, meaning: str, legacy: str, unit: int = 1) -> Family:
    return Family(name, Kind.GAUGE, meaning, statsd=Statsd(legacy, unit=unit))


API_REQUEST = _of_calls(
    "modelmesh_api_request_milliseconds", TIMES, "calls at the door they came through, whatever their code", "api-", "modelmesh_api_request"
)
INVOKE_MODEL = _of_calls(
    "modelmesh_invoke_model_milliseconds", TIMES, "calls of the runtime, at the pod that served them", "invoke-", "modelmesh_invoke_model"
)
REQUEST_SIZE = _of_calls("modelmesh_request_size_bytes", MESSAGE_SIZES, "request messages at the door they came through", "reqSize-")
RESPONSE_SIZE = _of_calls("modelmesh_response_size_bytes", MESSAGE_SIZES, "response messages, where there was one", "respSize-")
CACHE_MISS = _of_models(
    "modelmesh_cache_miss_milliseconds", TIMES, "waits of calls for their model to load", "cacheMiss", "modelmesh_cache_miss"
)
LOAD = _of_models("modelmesh_loadmodel_milliseconds", TIMES, "successful loads", "loadModel", "modelmesh_loadmodel")
UNLOAD = _of_models("modelmesh_unloadmodel_milliseconds", TIMES, "successful unloads", "unloadModel", "modelmesh_unloadmodel")
REQUEST_QUEUE = _of_models("modelmesh_req_queue_delay_milliseconds", TIMES, "waits of calls for a turn on their copy", "queueDelay")
LOADING_QUEUE = _of_models("modelmesh_loading_queue_delay_milliseconds", TIMES, "waits of loads for their turn", "loadModelQueueDelay")
SIZING = _of_models("modelmesh_model_sizing_milliseconds", TIMES, "measurements of models' sizes by the runtime", "sizeModel")
EVICTION_AGE = _of_models(
    "modelmesh_age_at_eviction_milliseconds",
    AGES,
    "time since the last use of evicted models",
    "cache_evictModel",
    "modelmesh_model_evicted",
)
MODEL_SIZE = _of_models("modelmesh_loaded_model_size_bytes", MODEL_SIZES, "sizes of loaded models", "mmModelSizeBytes")
LOOP_LAG = Family("mesh_loop_lag_milliseconds", Kind.HISTOGRAM, "how late the event loop runs what is due", buckets=TIMES)

LOAD_FAILURE = _failures("modelmesh_loadmodel_failure", "failed loads", "loadModel-failed")
UNLOAD_FAILURE = _failures("modelmesh_unloadmodel_failure", "unloads that were given up", "unloadModel-failure")
UNLOAD_ATTEMPT_FAILURE = _failures("modelmesh_unloadmodel_attempt_failure", "failed attempts to unload", "unloadModel-attemptFailed")

LRU = _gauge("modelmesh_instance_lru_seconds", "last use of this pod's least recently used model, seconds since 1970", "localLruTimestamp")
LRU_AGE = _gauge("modelmesh_instance_lru_age_seconds", "time since that use; 0 without models", "localLruAge")
CAPACITY = _gauge(
    "modelmesh_instance_capacity_bytes", "memory for models, without what is kept free for unloads", "totalCapacity", UNIT_BYTES
)
USED = _gauge("modelmesh_instance_used_bytes", "memory that models use", "totalUsed", UNIT_BYTES)
USED_BPS = _gauge("modelmesh_instance_used_bps", "the same in ten thousandths of the capacity", "capacityUsage")
MODELS = _gauge("modelmesh_instance_models_total", "models in this pod", "modelCount")
MODELS_LOADED = _gauge("modelmesh_models_loaded_total", "models that are loaded somewhere; told by the leader only", "modelsLoaded")
MODELS_FAILED = _gauge("modelmesh_models_with_failure_total", "models with a failed load; told by the leader only", "modelsWithLoadFailure")
MODELS_MANAGED = _gauge("modelmesh_models_managed_total", "registered models; told by the leader only", "modelsManaged")

REFUSALS = Family("mesh_refusals_total", Kind.COUNTER, "calls that this pod ended with an error of the mesh, by its class", ("class",))
LANE = Family("mesh_lane_calls_total", Kind.COUNTER, "calls that the express lane carried without Python, by their way", ("way",))
EVICTIONS = Family(
    *(
        "mesh_evictions_total",
        Kind.COUNTER,
        "copies displaced in this pod: for room, or by the growth of another that was guessed too small",
    ),
    ("reason",),
)
DECISIONS = Family("mesh_decisions_total", Kind.COUNTER, "decisions of this pod by kind, as `mesh explain` tells them", ("kind",))
OUTAGE = Family("mesh_store_outage_seconds_total", Kind.COUNTER, "time without an answer of the registry's store")
UNREGISTERED = Family("mesh_unregistered_copies", Kind.GAUGE, "copies in this pod that the registry does not show yet")
PODS_WANTED = Family("mesh_pods_wanted", Kind.GAUGE, "pods that a runtime wants; every pod tells it of every runtime", ("runtime",))
SERVER_HELD = Family("mesh_model_server_held_bytes", Kind.GAUGE, "resident memory of the model server's processes, without pages of files")
SERVER_UNUSED = Family(
    *("mesh_model_server_unused_bytes", Kind.GAUGE, "of it, what is accounted for neither by models nor by an empty server"),
)
RECYCLES = Family("mesh_model_server_recycles_total", Kind.COUNTER, "times that the model server was ended because it leaked memory")
PAYLOADS = Family("mesh_payloads_total", Kind.COUNTER, "payloads for processors, by what became of them", ("outcome",))
SERIES_DROPPED = Family(
    "mesh_series_dropped_total", Kind.COUNTER, "series of models that went because there were more than MESH_MAX_PER_MODEL_SERIES"
)

HISTOGRAMS = (
    *(API_REQUEST, INVOKE_MODEL, REQUEST_SIZE, RESPONSE_SIZE, CACHE_MISS, LOAD, UNLOAD),
    *(REQUEST_QUEUE, LOADING_QUEUE, SIZING, EVICTION_AGE, MODEL_SIZE, LOOP_LAG),
)
COUNTERS = (
    LOAD_FAILURE,
    UNLOAD_FAILURE,
    UNLOAD_ATTEMPT_FAILURE,
    REFUSALS,
    LANE,
    EVICTIONS,
    DECISIONS,
    OUTAGE,
    RECYCLES,
    PAYLOADS,
    SERIES_DROPPED,
)
GAUGES = (
    LRU,
    LRU_AGE,
    CAPACITY,
    USED,
    USED_BPS,
    MODELS,
    UNREGISTERED,
    MODELS_LOADED,
    MODELS_FAILED,
    MODELS_MANAGED,
    PODS_WANTED,
    SERVER_HELD,
    SERVER_UNUSED,
)
ALL = HISTOGRAMS + COUNTERS + GAUGES
