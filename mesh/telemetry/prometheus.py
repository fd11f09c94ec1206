"""What Prometheus gets: everything since the start, told again at each scrape."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from mesh.core.errors import Code
from mesh.telemetry import catalogue as known
from mesh.telemetry.catalogue import Family, Kind
from mesh.telemetry.options import Options
from mesh.telemetry.series import Bound, Histogram, Key, Labels, head, label_text, sample, selection
from mesh.telemetry.sinks import Figures, Readings


class Prometheus:
    """The sums of a pod.

    Args:
        options: what `MM_METRICS` says.
        most_series: of models, all histograms together.
        readings: asked at each scrape.
    """

    def __init__(self, options: Options, most_series: int, readings: Readings) -> None:
        self._options, self._readings = options, readings
        self._bound = Bound(most_series)
        self._histograms = {family: self._histogram(family) for family in known.HISTOGRAMS}
        self._counts: dict[Family, dict[Key, float]] = {family: {} if family.labels else {(): 0.0} for family in known.COUNTERS}

    def observe(self, family: Family, key: Key, value: float) -> None:
        """As of `Sink`."""
        self._histograms[family].observe(key, value)

    def observe_all(self, family: Family, key: Key, counts: Sequence[int], total: float) -> None:
        """Several values at once: how many each bucket has, and their sum."""
        self._histograms[family].observe_all(key, counts, total)

    def count(self, family: Family, key: Key, by: float) -> None:
        """As of `Sink`."""
        counts = self._counts[family]
        counts[key] = counts.get(key, 0.0) + by

    def exposition(self, names: Collection[str] = ()) -> Iterator[str]:
        """The text in pieces of a millisecond or less, whole families after another; `names` keeps those families or samples only."""
        for family, histogram in self._histograms.items():
            yield from histogram.write(selection(family, names))
        self._counts[known.SERIES_DROPPED] = {(): self._bound.dropped}
        for family, figures in {**self._counts, **self._readings()}.items():
            for name in filter(None, (family.name, family.also)):
                if not names or name in names:
                    yield head(family, name) + _lines(family, name, figures)
        if self._options.info:
            name, labels = self._options.info
            if not names or name in names:
                yield head(Family(name, Kind.GAUGE, "what this deployment is")) + sample(name, label_text(labels), 1)

    def _histogram(self, family: Family) -> Histogram:
        bound = self._bound if self._options.per_model and family.per_model else None
        if family.labels:
            return Histogram(family, _call_labels, bound)
        histogram = Histogram(family, _model_labels, bound)
        if bound is None:
            histogram.series(())  # Without labels it is there from the start, at zero.
        return histogram


def _lines(family: Family, name: str, figures: Figures) -> str:
    return "".join(sample(name, label_text(zip(family.labels, map(str, key), strict=True)), value) for key, value in figures.items())


def _call_labels(key: Key) -> Labels:
    method, code, *models = key
    return tuple(zip((*known.CALL_LABELS, *known.MODEL_LABELS), (str(method), Code(code).name, *map(str, models)), strict=False))


def _model_labels(key: Key) -> Labels:
    return tuple(zip(known.MODEL_LABELS, (str(key[0]), ""), strict=True)) if key else ()
