"""What the rest of the mesh says when something happened, for whichever monitoring system is set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mesh.core.errors import Code, MeshError
from mesh.telemetry import catalogue as known
from mesh.telemetry.catalogue import Family
from mesh.telemetry.options import Options, StatsdOptions
from mesh.telemetry.prometheus import Prometheus
from mesh.telemetry.series import Key
from mesh.telemetry.sinks import Figures, Nowhere, Sink
from mesh.telemetry.statsd import Statsd

_log = logging.getLogger(__name__)
_NO_MODELS_LRU = 9223372036854775
"""Of an empty pod: the largest time of Java in seconds, as ModelMesh tells it."""
MOST_METHODS = 1_000
"""Methods that are told apart: clients can invent them without end, and what comes after these is told as one."""
LONGEST_METHOD = 256
OTHER = "other"
MOST_SERIES = 10_000


class Calls(NamedTuple):
    """Several calls in one histogram.

    Attributes:
        counts: by the bounds of the family, one more than those.
        total: sum of all values, in the unit of the family's name.
    """

    counts: Sequence[int]
    total: float


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


class Listener(Protocol):
    """Hears of calls and loads one by one."""

    def called(self, model: str, code: Code, ms: float) -> None:
        """A call that came through a door of this pod has ended; `model` is empty if that is unknown."""
        ...

    def loaded(self, model: str, ms: float) -> None:
        """The runtime has loaded a model."""
        ...

    def sized(self, model: str, size: int) -> None:
        """A loaded model takes this many bytes."""
        ...


class Metrics:
    """All metrics of a pod. Methods are for the event loop's thread, cost about a microsecond, and never fail.

    Args:
        options: None switches metrics off: nothing is kept, nothing is told.
        most_series: of models that Prometheus gets with `per_model_metrics`, all histograms together.
    """

    def __init__(self, options: Options | StatsdOptions | None, most_series: int = MOST_SERIES) -> None:
        self.options = options
        self._per_model = isinstance(options, Options) and options.per_model
        self._full_names = options is not None and options.full_names
        self._gauges: Callable[[], Gauges] | None = None
        self.listener: Listener | None = None
        self.catch_up: Callable[[], None] = lambda: None
        """Called before figures are told: whoever counts elsewhere tells what it counted."""
        self._sources: dict[Family, Callable[[], float | Mapping[str, float] | None]] = {}
        self._methods: dict[str, str] = {}
        self._prometheus = Prometheus(options, most_series, self._readings) if isinstance(options, Options) else None
        self._statsd = Statsd(options, self._readings) if isinstance(options, StatsdOptions) else None
        self._sink: Sink = self._prometheus or self._statsd or Nowhere()
        self._observe, self._count = self._sink.observe, self._sink.count

    async def begin(self) -> None:
        """Opens what sends; Prometheus asks at a door instead."""
        if self._statsd is not None:
            await self._statsd.begin()

    async def end(self) -> None:
        """Sends what is held."""
        if self._statsd is not None:
            await self._statsd.end()

    # Calls; `method` is pkg.Service/Method, `model` the concrete model, `alias` the name it was called by

    def api_request(self, method: str, code: Code, ms: float, model: str = "", alias: str = "") -> None:
        """A call that came through a door of this pod has ended."""
        self._observe(known.API_REQUEST, self._call(method, code, model, alias), ms)
        if self.listener is not None:
            self.listener.called(model, code, ms)

    def invoke(self, method: str, code: Code, ms: float, model: str = "", alias: str = "") -> None:
        """This pod's runtime has answered."""
        self._observe(known.INVOKE_MODEL, self._call(method, code, model, alias), ms)

    def request_size(self, method: str, code: Code, size: int, model: str = "", alias: str = "") -> None:
        """The request message of such a call had this many bytes."""
        self._observe(known.REQUEST_SIZE, self._call(method, code, model, alias), size)

    def response_size(self, method: str, code: Code, size: int, model: str = "", alias: str = "") -> None:
        """The response message of such a call had this many bytes."""
        self._observe(known.RESPONSE_SIZE, self._call(method, code, model, alias), size)

    def straight(
        self, method: str, code: Code, taken: Calls, asked: Calls, answered: Calls, model: str, alias: str, *, came_in: bool, served: bool
    ) -> None:
        """Calls have ended with a code that Python did not see.

        Args:
            taken: times between caller and answer; they stand for the runtime's, too.
            asked, answered: sizes.
            came_in: through a door of this pod for clients.
            served: by this pod's runtime.
        """
        key, calls = self._call(method, code, model, alias), sum(taken.counts)
        if self._prometheus is not None:
            for family, values, counts in (
                (known.API_REQUEST, taken, came_in),
                (known.INVOKE_MODEL, taken, served),
                (known.REQUEST_SIZE, asked, came_in),
                (known.RESPONSE_SIZE, answered, came_in),
            ):
                if counts and any(values.counts):
                    self._prometheus.observe_all(family, key, values.counts, values.total)
        if self.listener is not None and came_in:
            for _ in range(calls):
                self.listener.called(model, code, taken.total / calls)

    def refused(self, error: MeshError) -> None:
        """A call that came through a door of this pod ended with an error of the mesh, not with a status of the runtime."""
        self._count(known.REFUSALS, (error.label,), 1)

    # Models

    def cache_miss(self, ms: float, model: str = "") -> None:
        """A call has waited for its model to load."""
        self._of_model(known.CACHE_MISS, model, ms)

    def load(self, ms: float, model: str = "") -> None:
        """The runtime has loaded a model."""
        if self.listener is not None:
            self.listener.loaded(model, ms)
        self._of_model(known.LOAD, model, ms)

    def load_failed(self) -> None:
        """The runtime has failed to load a model."""
        self._count(known.LOAD_FAILURE, (), 1)

    def unload(self, ms: float, model: str = "") -> None:
        """The runtime has unloaded a model."""
        self._of_model(known.UNLOAD, model, ms)

    def unload_attempt_failed(self) -> None:
        """The runtime has failed to unload a model; it may be tried again."""
        self._count(known.UNLOAD_ATTEMPT_FAILURE, (), 1)

    def unload_failed(self) -> None:
        """An unload is given up."""
        self._count(known.UNLOAD_FAILURE, (), 1)

    def queue_delay(self, ms: float, model: str = "") -> None:
        """A call has waited for its turn on a copy."""
        self._of_model(known.REQUEST_QUEUE, model, ms)

    def queue_delays(self, waits: Calls, model: str = "") -> None:
        """Calls that Python did not see had their turns on a copy after such waits."""
        if self._prometheus is not None:
            self._prometheus.observe_all(known.REQUEST_QUEUE, (model,) if self._per_model else (), waits.counts, waits.total)

    def loading_queue_delay(self, ms: float, model: str = "") -> None:
        """A load has waited for its turn."""
        self._of_model(known.LOADING_QUEUE, model, ms)

    def sizing(self, ms: float, model: str = "") -> None:
        """The runtime has measured a model."""
        self._of_model(known.SIZING, model, ms)

    def evicted(self, age_ms: float, model: str = "", *, reason: str = "room") -> None:
        """A model, last used `age_ms` ago, has made room for another that is to be loaded, or that has turned out larger (`growth`)."""
        self._of_model(known.EVICTION_AGE, model, age_ms)
        self._count(known.EVICTIONS, (reason,), 1)

    def model_size(self, size: int, model: str = "") -> None:
        """A loaded model takes this many bytes."""
        if self.listener is not None:
            self.listener.sized(model, size)
        self._of_model(known.MODEL_SIZE, model, size)

    # The pod

    def loop_lag(self, ms: float) -> None:
        """The event loop ran something this late."""
        self._observe(known.LOOP_LAG, (), ms)

    def count(self, family: Family, by: float = 1, *labels: str) -> None:
        """Raises a counter of the catalogue; `labels` are the values of its labels."""
        self._count(family, labels, by)

    def gauges_from(self, source: Callable[[], Gauges]) -> None:
        """Asks `source` at each scrape; until this is called, and if it fails, there are no gauges."""
        self._gauges = source

    def read(self, family: Family, source: Callable[[], float | Mapping[str, float] | None]) -> None:
        """Asks `source` at each scrape for a gauge, or for a counter that somebody else keeps.

        Args:
            family: of the catalogue.
            source: its value; values by label if it has one; None tells nothing, as of what only the leader knows.
        """
        self._sources[family] = source

    # What is told

    def exposition(self, names: Collection[str] = ()) -> Iterator[str]:
        """What Prometheus gets, in pieces of a millisecond or less; `names` keeps those families or samples only."""
        self.catch_up()
        return self._prometheus.exposition(names) if self._prometheus is not None else iter(())

    def _readings(self) -> Mapping[Family, Figures]:
        values: dict[Family, Figures] = {family: {(): value} for family, value in self._gauge_values().items()}
        for family, source in self._sources.items():
            try:
                value = source()
            except Exception:
                _log.exception("%s is left out of a scrape", family.name)
                continue
            if isinstance(value, Mapping):
                values[family] = {(label,): one for label, one in value.items()}
            elif value is not None:
                values[family] = {(): value}
        return values

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
        self._observe(family, (model,) if self._per_model else (), value)

    def _call(self, method: str, code: Code, model: str, alias: str) -> Key:
        told = self._methods.get(method) or self._told(method)
        return (told, code.value, model, alias) if self._per_model else (told, code.value)

    def _told(self, method: str) -> str:
        """A method as a label."""
        if len(self._methods) >= MOST_METHODS or len(method) > LONGEST_METHOD:
            return OTHER
        full = method.removeprefix("/")
        told = self._methods[method] = full if self._full_names else full.rpartition("/")[2]
        return told
