"""What the rest of the mesh says when something happened, and the text that Prometheus gets of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from mesh.core.errors import Code
from mesh.telemetry import catalogue as known
from mesh.telemetry.catalogue import Family, Kind
from mesh.telemetry.options import Options
from mesh.telemetry.series import OTHER, Histogram, Key, Labels, head, label_text, sample, selection

_log = logging.getLogger(__name__)
_NO_MODELS_LRU = 9223372036854775
"""Of an empty pod: the largest time of Java in seconds, as ModelMesh tells it."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """What a pod has at the moment of a scrape.

    Attributes:
        lru: last use of the least recently used model, seconds since 1970; None without models.
        lru_age: time since then, in seconds.
        capacity, used: bytes.
        models: in this pod.
        loaded, failed, managed: models of the whole mesh; None in all pods but the leader.
    """

    lru: float | None
    lru_age: float
    capacity: int
    used: int
    models: int
    loaded: int | None = None
    failed: int | None = None
    managed: int | None = None


class Metrics:
    """All metrics of a pod. Methods are for the event loop's thread, cost about a microsecond, and never fail.

    Args:
        options: None switches metrics off: nothing is kept, nothing is told.
    """

    def __init__(self, options: Options | None) -> None:
        self.options = options
        self._per_model = options is not None and options.per_model
        self._full_names = options is not None and options.full_names
        self._gauges: Callable[[], Gauges] | None = None
        self._counts = dict.fromkeys(known.COUNTERS, 0)
        self._histograms = {family: self._histogram(family) for family in known.HISTOGRAMS}
        self._api, self._invoke = self._observer(known.API_REQUEST), self._observer(known.INVOKE_MODEL)
        self._request, self._response = self._observer(known.REQUEST_SIZE), self._observer(known.RESPONSE_SIZE)

    # Calls; `method` is pkg.Service/Method, `model` the concrete model, `alias` the name it was called by

    def api_request(self, method: str, code: Code, ms: float, model: str = "", alias: str = "") -> None:
        """A call that came through a door of this pod has ended."""
        self._api((method, code.value, model, alias) if self._per_model else (method, code.value), ms)

    def invoke(self, method: str, code: Code, ms: float, model: str = "", alias: str = "") -> None:
        """This pod's runtime has answered."""
        self._invoke((method, code.value, model, alias) if self._per_model else (method, code.value), ms)

    def request_size(self, method: str, code: Code, size: int, model: str = "", alias: str = "") -> None:
        """The request message of such a call had this many bytes."""
        self._request((method, code.value, model, alias) if self._per_model else (method, code.value), size)

    def response_size(self, method: str, code: Code, size: int, model: str = "", alias: str = "") -> None:
        """The response message of such a call had this many bytes."""
        self._response((method, code.value, model, alias) if self._per_model else (method, code.value), size)

    # Models

    def cache_miss(self, ms: float, model: str = "") -> None:
        """A call has waited for its model to load."""
        self._of_model(known.CACHE_MISS, model, ms)

    def load(self, ms: float, model: str = "") -> None:
        """The runtime has loaded a model."""
        self._of_model(known.LOAD, model, ms)

    def load_failed(self) -> None:
        """The runtime has failed to load a model."""
        self._count(known.LOAD_FAILURE)

    def unload(self, ms: float, model: str = "") -> None:
        """The runtime has unloaded a model."""
        self._of_model(known.UNLOAD, model, ms)

    def unload_attempt_failed(self) -> None:
        """The runtime has failed to unload a model; it may be tried again."""
        self._count(known.UNLOAD_ATTEMPT_FAILURE)

    def unload_failed(self) -> None:
        """An unload is given up."""
        self._count(known.UNLOAD_FAILURE)

    def queue_delay(self, ms: float, model: str = "") -> None:
        """A call has waited for its turn on a copy."""
        self._of_model(known.REQUEST_QUEUE, model, ms)

    def loading_queue_delay(self, ms: float, model: str = "") -> None:
        """A load has waited for its turn."""
        self._of_model(known.LOADING_QUEUE, model, ms)

    def sizing(self, ms: float, model: str = "") -> None:
        """The runtime has measured a model."""
        self._of_model(known.SIZING, model, ms)

    def evicted(self, age_ms: float, model: str = "") -> None:
        """A model, last used `age_ms` ago, has made room for another."""
        self._of_model(known.EVICTION_AGE, model, age_ms)

    def model_size(self, size: int, model: str = "") -> None:
        """A loaded model takes this many bytes."""
        self._of_model(known.MODEL_SIZE, model, size)

    # The pod

    def loop_lag(self, ms: float) -> None:
        """The event loop ran something this late."""
        if self.options:
            self._histograms[known.LOOP_LAG].observe((), ms)

    def gauges_from(self, source: Callable[[], Gauges]) -> None:
        """Asks `source` at each scrape; until this is called, and if it fails, there are no gauges."""
        self._gauges = source

    # What Prometheus gets

    def exposition(self, names: Collection[str] = ()) -> Iterator[str]:
        """The text in pieces of a millisecond or less, whole families after another; `names` keeps those families or samples only."""
        if self.options is None:
            return
        for family, histogram in self._histograms.items():
            yield from histogram.write(selection(family, names))
        values: dict[Family, float] = {**self._counts, **self._gauge_values()}
        for family, value in values.items():
            if selection(family, names)(family.name):
                yield head(family) + sample(family.name, "", value)
        if self.options.info:
            name, labels = self.options.info
            family = Family(name, Kind.GAUGE, "what this deployment is")
            if selection(family, names)(name):
                yield head(family) + sample(name, label_text(labels), 1)

    def _gauge_values(self) -> dict[Family, float]:
        if self._gauges is None:
            return {}
        try:
            now = self._gauges()
        except Exception:
            _log.exception("the gauges are left out of a scrape")
            return {}
        values: dict[Family, float | None] = {
            known.LRU: _NO_MODELS_LRU if now.lru is None else now.lru,
            known.LRU_AGE: 0 if now.lru is None else now.lru_age,
            known.CAPACITY: now.capacity,
            known.USED: now.used,
            known.USED_BPS: now.used * 10_000 // now.capacity if now.capacity else 0,
            known.MODELS: now.models,
            known.MODELS_LOADED: now.loaded,
            known.MODELS_FAILED: now.failed,
            known.MODELS_MANAGED: now.managed,
        }
        return {family: value for family, value in values.items() if value is not None}

    def _of_model(self, family: Family, model: str, value: float) -> None:
        if self.options:
            self._histograms[family].observe((model,) if self._per_model else (), value)

    def _count(self, family: Family) -> None:
        self._counts[family] += 1

    def _observer(self, family: Family) -> Callable[[Key, float], None]:
        return self._histograms[family].observe if self.options else _ignore

    def _histogram(self, family: Family) -> Histogram:
        if family.labels:
            return Histogram(family, self._call_labels, lambda key: (OTHER, *key[1:2], *("" for _ in key[2:])))
        histogram = Histogram(family, _model_labels, lambda key: tuple("" for _ in key))
        if not (self._per_model and family.per_model):
            histogram.series(())  # Without labels it is there from the start, at zero.
        return histogram

    def _call_labels(self, key: Key) -> Labels:
        method, code, *models = key
        method = str(method).removeprefix("/")
        short = method if self._full_names else method.rpartition("/")[2]
        labels = zip((*known.CALL_LABELS, *known.MODEL_LABELS), (short, Code(code).name, *map(str, models)), strict=False)
        return tuple(labels)


def _model_labels(key: Key) -> Labels:
    return tuple(zip(known.MODEL_LABELS, (str(key[0]), ""), strict=True)) if key else ()


def _ignore(_key: Key, _value: float) -> None:
    """Metrics are off."""
