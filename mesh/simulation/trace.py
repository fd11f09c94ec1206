"""Traces of accesses: who called which model when, as a CSV that `mesh simulate` replays and `mesh trace` writes.

The first line names the columns, in any order: `time_s`, `model`, `size_bytes`, `load_ms`, and if wanted `duration_ms` and `type`. Each
further line is one call, in the order of time. What of a model is unknown stays empty; what several lines say of a model, the last one
says for all. Empty lines and lines that begin with `#` are passed over.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO

from mesh.core.errors import Failed, Malformed

REQUIRED = ("time_s", "model", "size_bytes", "load_ms")
OPTIONAL = ("duration_ms", "type")
COLUMNS = (*REQUIRED, *OPTIONAL)

LONGEST = 10 * 365 * 86_400
"""Seconds: a later time is one in other units, or one since 1970."""


@dataclass(slots=True)
class TracedModel:
    """What a trace tells of a model.

    Attributes:
        size: bytes; None if unknown.
        load: ms; None if unknown.
        duration: ms of a call on average; None if unknown.
        type: of the model; empty is any.
    """

    size: int | None = None
    load: float | None = None
    duration: float | None = None
    type: str = ""


@dataclass(slots=True)
class Trace:
    """Accesses in order of time.

    Attributes:
        accesses: seconds since the begin, and the model.
        models: by name.
    """

    accesses: list[tuple[float, str]] = field(default_factory=list)
    models: dict[str, TracedModel] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From zero to the last access."""
        return self.accesses[-1][0] if self.accesses else 0.0

    def assumed(self, size: int, load: float, duration: float) -> list[str]:
        """Fills in what is unknown of models: the median of what is known of others, else the arguments (bytes, ms, ms).

        Returns:
            What was assumed, in words.
        """
        said = []
        for name, unit, fallback in (("size", "bytes", float(size)), ("load", "ms", load), ("duration", "ms", duration)):
            known = [value for model in self.models.values() if (value := getattr(model, name)) is not None]
            missing = [model for model in self.models.values() if getattr(model, name) is None]
            value = median(known) if known else fallback
            for model in missing:
                setattr(model, name, int(value) if name == "size" else value)
            if missing and (known or name != "duration"):
                words = "the median of the others" if known else "nothing better is known"
                said.append(
                    f"{len(missing)} of {len(self.models)} models have no {name} in the trace: {value:,.0f} {unit} assumed, {words}"
                )
        return said


def read(path: Path) -> Trace:
    """Reads a trace.

    Raises:
        Malformed: it is none; the message names line and column.
        Failed: the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return parse(file, str(path))
    except OSError as error:
        raise Failed(f"the trace {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"{path} is no text in UTF-8: byte {error.start} is {error.object[error.start]:#x}") from None


def parse(lines: Iterable[str], name: str) -> Trace:
    """Reads a trace from its lines; `name` stands in messages. Malformed as of `read`."""
    reader = csv.reader(lines, strict=True)
    rows = _rows(reader, name)
    header = next(rows, None)
    if header is None:
        raise Malformed(f"{name} is empty; the first line names the columns: {','.join(COLUMNS)}")
    where = _columns(header, f"{name}, line {reader.line_num}")
    trace, durations, at = Trace(), dict[str, list[float]](), 0.0
    for row in rows:
        line = _Line(row, where, f"{name}, line {reader.line_num}")
        time, model = line.time(at), line.model()
        _learn(trace.models.setdefault(model, TracedModel()), line, durations.setdefault(model, []))
        trace.accesses.append((time, model))
        at = time
    if not trace.accesses:
        raise Malformed(f"{name} has no access: a line such as 0.5,my-model,104857600,1200 follows the line of names")
    for model, times in durations.items():
        trace.models[model].duration = sum(times) / len(times) if times else None
    return trace


def write(trace: Trace, file: IO[str]) -> None:
    """Writes a trace; figures of a model stand in its first line. OSError if the file system refuses."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    told: set[str] = set()
    for time, name in trace.accesses:
        model = TracedModel() if name in told else trace.models[name]
        told.add(name)
        figures = ("" if value is None else f"{value:.10g}" for value in (model.load, model.duration))
        writer.writerow([f"{time:.3f}", name, "" if model.size is None else model.size, *figures, model.type])


class _Line:
    """One access as text."""

    def __init__(self, row: list[str], where: dict[str, int], place: str) -> None:
        if len(row) != len(where):
            raise Malformed(f"{place}: {len(row)} values, and the first line names {len(where)} columns")
        self._row, self._where, self._place = row, where, place

    def text(self, column: str) -> str:
        """A value; empty if there is no such column."""
        return self._row[self._where[column]].strip() if column in self._where else ""

    def model(self) -> str:
        """The model's name."""
        name = self.text("model")
        if not name:
            raise self.wrong("model", "the model has no name")
        return sys.intern(name)

    def time(self, before: float) -> float:
        """Seconds since the begin."""
        time = self.number("time_s", "seconds since the begin of the trace")
        if time is None:
            raise self.wrong("time_s", "the time is missing")
        if time < before:
            raise self.wrong("time_s", f"{time:g} is before the {before:g} of an earlier line; sort the trace by time")
        if time > LONGEST:
            raise self.wrong("time_s", f"{time:g} is later than ten years; times are seconds since the begin of the trace")
        return time

    def number(self, column: str, meaning: str) -> float | None:
        """A number that is not negative; None if there is none."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < math.inf:
            raise self.wrong(column, f"{text!r} is no number of {meaning}")
        return value

    def wrong(self, column: str, what: str) -> Malformed:
        """The error of a value."""
        return Malformed(f"{self._place}, column {column}: {what}")


def _rows(reader: Iterator[list[str]], name: str) -> Iterator[list[str]]:
    """Lines with something in them. `reader` is csv's, which knows the number of its line."""
    try:
        for row in reader:
            if row and not row[0].startswith("#") and any(row):
                yield row
    except csv.Error as error:
        raise Malformed(f"{name}, line {getattr(reader, 'line_num', 0)}: {error}") from None


def _columns(header: list[str], place: str) -> dict[str, int]:
    names = [name.strip() for name in header]
    missing, unknown = [name for name in REQUIRED if name not in names], [name for name in names if name not in COLUMNS]
    if missing:
        raise Malformed(f"{place}: no column {', '.join(missing)}; the line names the columns, e.g. {','.join(COLUMNS)}")
    if unknown:
        raise Malformed(f"{place}, column {unknown[0]!r}: there is no such column; there are {', '.join(COLUMNS)}")
    if len(set(names)) < len(names):
        raise Malformed(f"{place}: a column is named twice")
    return {name: number for number, name in enumerate(names)}


def _learn(model: TracedModel, line: _Line, durations: list[float]) -> None:
    size = line.number("size_bytes", "bytes")
    if size is not None:
        if size < 1 or size != int(size):
            raise line.wrong(
                "size_bytes", f"{line.text('size_bytes')!r} is no whole number of bytes above 0; leave it empty if it is unknown"
            )
        model.size = int(size)
    load, duration = line.number("load_ms", "milliseconds"), line.number("duration_ms", "milliseconds")
    if load is not None:
        model.load = load
    if duration is not None:
        durations.append(duration)
    model.type = line.text("type") or model.type
