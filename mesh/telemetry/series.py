"""What metrics count, and how it is written for Prometheus (text format 0.0.4).

`prometheus_client` appends `_total` to counters and looks labels up for each observation; here names stay as they are, and an
observation is one look-up in a dictionary and one in a list of bounds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator

from mesh.telemetry.catalogue import Family

MOST_SERIES = 20_000
"""Of one histogram. Clients can invent names without end; what comes after this many counts in one series for each code."""
OTHER = "other"
_SERIES_A_PIECE = 32

Key = tuple[str | int, ...]
Labels = tuple[tuple[str, str], ...]


class Histogram:
    """One family of series, found by the key of an observation.

    Args:
        family: name and buckets.
        label: turns a key that is seen for the first time into the labels of its series. Two keys may have the same labels.
        overflow: the key that counts in place of another one once there are `MOST_SERIES`.
    """

    def __init__(self, family: Family, label: Callable[[Key], Labels], overflow: Callable[[Key], Key]) -> None:
        self._family, self._label, self._overflow = family, label, overflow
        self._bounds = tuple(map(float, family.buckets))
        self._ends = [*(f'le="{_number(bound)}"' for bound in self._bounds), 'le="+Inf"']
        self._by_key: dict[Key, list[float]] = {}
        self._by_labels: dict[Labels, list[float]] = {}

    def observe(self, key: Key, value: float) -> None:
        """Counts `value`, in the unit of the family's name."""
        series = self._by_key.get(key)
        if series is None:
            series = self.series(key)
        series[bisect_left(self._bounds, value)] += 1
        series[-1] += value

    def series(self, key: Key) -> list[float]:
        """The series of `key`, made if need be: how many observations each bucket alone has, and last the sum of all."""
        full = len(self._by_key) >= MOST_SERIES
        labels = self._label(self._overflow(key) if full else key)
        series = self._by_labels.setdefault(labels, [0.0] * (len(self._ends) + 1))
        if not full:
            self._by_key[key] = series
        return series

    def write(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        """The family in pieces; `wanted` is asked for each name of a sample."""
        name = self._family.name
        names = (f"{name}_bucket", f"{name}_count", f"{name}_sum")
        flags = tuple(map(wanted, names))
        if not any(flags):
            return
        yield head(self._family)
        found = list(self._by_labels.items())  # Series may be added between two pieces.
        for start in range(0, len(found), _SERIES_A_PIECE):
            lines: list[str] = []
            for labels, series in found[start : start + _SERIES_A_PIECE]:
                self._write_series(lines, labels, series, names, flags)
            yield "".join(lines)

    def _write_series(self, lines: list[str], labels: Labels, series: list[float], names: tuple[str, ...], flags: tuple[bool, ...]) -> None:
        text = label_text(labels)
        so_far = 0.0
        for end, count in zip(self._ends, series, strict=False):
            so_far += count
            if flags[0]:
                lines.append(f"{names[0]}{{{text}{',' if text else ''}{end}}} {so_far!r}\n")
        for flag, name, value in ((flags[1], names[1], so_far), (flags[2], names[2], series[-1])):
            if flag:
                lines.append(sample(name, text, value))


def head(family: Family) -> str:
    """The two lines before a family's samples."""
    return f"# HELP {family.name} {family.meaning}\n# TYPE {family.name} {family.kind.value}\n"


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
