"""What metrics count, and how it is written for Prometheus (text format 0.0.4).

`prometheus_client` appends `_total` to counters and looks labels up for each observation; here names stay as they are, and an
observation is one look-up in a dictionary and one in a list of bounds.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from mesh.telemetry.catalogue import Family

_log = logging.getLogger(__name__)

_SERIES_A_PIECE = 32

Key = tuple[str | int, ...]
Labels = tuple[tuple[str, str], ...]


class Bound:
    """The most series of models that a pod tells: beyond it, the one that is longest unused goes.

    A series that comes back begins at zero, which Prometheus takes for a restart: rates stay right.

    Args:
        most: series of all histograms together.

    Attributes:
        dropped: series that went, ever.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._order: OrderedDict[tuple[Histogram, Key], None] = OrderedDict()
        self.dropped = 0

    def used(self, histogram: Histogram, key: Key) -> None:
        """A series that is there has got a value."""
        self._order.move_to_end((histogram, key))

    def added(self, histogram: Histogram, key: Key) -> None:
        """A series is new."""
        if len(self._order) >= self._most:
            (other, oldest), _ = self._order.popitem(last=False)
            other.drop(oldest)
            if not self.dropped:
                _log.warning(
                    "there are more than %d series of models: from now on the one that is longest unused goes for each new one; "
                    "raise MESH_MAX_PER_MODEL_SERIES or switch per_model_metrics of MM_METRICS off",
                    self._most,
                )
            self.dropped += 1
        self._order[histogram, key] = None


class Histogram:
    """One family of series, found by the key of an observation.

    Args:
        family: name and buckets.
        label: turns a key that is seen for the first time into the labels of its series; no two keys have the same.
        bound: says which series go; None keeps all.
    """

    def __init__(self, family: Family, label: Callable[[Key], Labels], bound: Bound | None = None) -> None:
        self._family, self._label, self._bound = family, label, bound
        self._bounds = tuple(map(float, family.buckets))
        self._ends = [*(f'le="{_number(bound)}"' for bound in self._bounds), 'le="+Inf"']
        self._by_key: dict[Key, list[float]] = {}
        self._texts: dict[Key, str] = {}

    def observe(self, key: Key, value: float) -> None:
        """Counts `value`, in the unit of the family's name."""
        series = self._by_key.get(key)
        if series is None:
            series = self.series(key)
        elif self._bound is not None:
            self._bound.used(self, key)
        series[bisect_left(self._bounds, value)] += 1
        series[-1] += value

    def observe_all(self, key: Key, counts: Sequence[int], total: float) -> None:
        """Counts several values, given by bucket, and their sum."""
        series = self._by_key.get(key)
        if series is None:
            series = self.series(key)
        elif self._bound is not None:
            self._bound.used(self, key)
        for place, count in enumerate(counts):
            series[place] += count
        series[-1] += total

    def series(self, key: Key) -> list[float]:
        """The series of a new key: how many observations each bucket alone has, and last the sum of all."""
        if self._bound is not None:
            self._bound.added(self, key)
        self._texts[key] = label_text(self._label(key))
        series = self._by_key[key] = [0.0] * (len(self._ends) + 1)
        return series

    def drop(self, key: Key) -> None:
        """Forgets a series."""
        del self._by_key[key], self._texts[key]

    def write(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        """The family in pieces; `wanted` is asked for each name of a sample."""
        name = self._family.name
        names = (f"{name}_bucket", f"{name}_count", f"{name}_sum")
        flags = tuple(map(wanted, names))
        if not any(flags):
            return
        yield head(self._family)
        # Series may come and go between two pieces.
        found = [(self._texts[key], series) for key, series in self._by_key.items()]
        for start in range(0, len(found), _SERIES_A_PIECE):
            lines: list[str] = []
            for text, series in found[start : start + _SERIES_A_PIECE]:
                self._write_series(lines, text, series, names, flags)
            yield "".join(lines)

    def _write_series(self, lines: list[str], text: str, series: list[float], names: tuple[str, ...], flags: tuple[bool, ...]) -> None:
        so_far = 0.0
        for end, count in zip(self._ends, series, strict=False):
            so_far += count
            if flags[0]:
                lines.append(f"{names[0]}{{{text}{',' if text else ''}{end}}} {so_far!r}\n")
        for flag, name, value in ((flags[1], names[1], so_far), (flags[2], names[2], series[-1])):
            if flag:
                lines.append(sample(name, text, value))


def head(family: Family, name: str = "") -> str:
    """The two lines before a family's samples, or those of its other name."""
    name = name or family.name
    return f"# HELP {name} {family.meaning}\n# TYPE {name} {family.kind.value}\n"


def sample(name: str, labels: str, value: float) -> str:
    """One line."""
    return f"{name}{{{labels}}} {float(value)!r}\n" if labels else f"{name} {float(value)!r}\n"


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """What stands between the braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def selection(family: Family, names: Collection[str]) -> Callable[[str], bool]:
    """Tells for the name of a sample of `family` whether it was asked for: by itself, by the family's, or because all were."""
    if not names or family.name in names:
        return lambda _: True
    return lambda name: name in names


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(bound: float) -> str:
    """A bound as Java writes it, so that series of old and new pods add up: 300000.0, but 7.776E9."""
    if bound < 1e7:
        return repr(bound)
    digits = str(int(bound))
    return f"{digits[0]}.{digits[1:].rstrip('0') or '0'}E{len(digits) - 1}"
