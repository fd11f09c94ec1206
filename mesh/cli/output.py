"""How the command prints: tables as kubectl's, JSON, YAML; errors in plain words and exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, NoReturn

import typer
from rich.console import Console
from ruamel.yaml import YAML

from mesh.core.errors import Malformed, MeshError
from mesh.core.explaining.status import Standing, Word
from mesh.core.scaling.bounds import bounds_from_json, told
from mesh.core.units import Millis

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

FAILED = 1
USAGE = 2


class Format(StrEnum):
    """Values of `--output`."""

    table = "table"
    wide = "wide"
    json = "json"
    yaml = "yaml"
    name = "name"


@contextmanager
def plain_errors(usage: tuple[type[MeshError], ...] = ()) -> Iterator[None]:
    """Ends the command with an error's own words and no traceback: exit code 2 for `usage`, 1 for all others."""
    try:
        yield
    except MeshError as error:
        fail(error.message, USAGE if isinstance(error, usage) else FAILED)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe left; nothing more can be printed, and nothing is wrong.
        sys.stderr.close()
        raise typer.Exit(0) from None


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Prints the message and ends the command."""
    errors.print(f"error: {message}", markup=False)
    raise typer.Exit(code)


def usage(message: str) -> Malformed:
    """An error of how the command was called."""
    return Malformed(message)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """Prints `columns`."""
    # One by one, ten thousand lines take a second.
    console.print("\n".join(columns(rows, header)), markup=False)


def columns(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    """Lines of columns as wide as their longest text, three spaces apart, as kubectl prints them."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def data(value: Any, output: Format) -> None:
    """JSON or YAML on standard output."""
    if output is Format.yaml:
        yaml = YAML()
        yaml.default_flow_style = False
        yaml.width = 4096
        yaml.dump(value, sys.stdout)
    else:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def fields(entries: Sequence[tuple[str, str]]) -> None:
    """Prints `pairs`."""
    for line in pairs(entries):
        console.print(line, markup=False)


def pairs(entries: Sequence[tuple[str, str]]) -> list[str]:
    """A name and a value per line, values in one column; further lines of a value are indented to it."""
    width = max((len(name) for name, _ in entries), default=0) + 3
    lines = []
    for name, value in entries:
        first, *more = value.split("\n")
        lines += [f"{name + ':':<{width}}{first}".rstrip(), *(" " * width + line for line in more)]
    return lines


def standing(model: Mapping[str, Any]) -> str:
    """How a model is, in words, from a router's facts about it."""
    said = model.get("status") or {}
    since, retry_at = Millis(said.get("since_ms") or 0), said.get("retry_at_ms")
    found = Standing(Word(model.get("status_word", Word.UNKNOWN.value)), since, retry_at, (said.get("why") or "").replace("\n", " "))
    return found.text(moment)


def size(value: Any) -> str:
    """Bytes for people."""
    if not isinstance(value, int | float):
        return "-"
    amount, units = float(value), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while amount >= 1024 and unit != "TiB":
        amount, unit = amount / 1024, next(units)
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def bounded(copies: int, bounds: dict[str, Any]) -> str:
    """How many copies there are and, if users bound them, how many there are to be, e.g. `2 (min 1, max 4, pinned)`."""
    words = told(bounds_from_json(bounds))
    return f"{copies} ({words})" if words else str(copies)


def counted(number: int, noun: str) -> str:
    """`1 model`, `2 models`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def moment(millis: Any, now: Callable[[], datetime] = datetime.now) -> str:
    """Epoch milliseconds as a time of today, or with its date, and how far away it is."""
    if not isinstance(millis, int | float) or millis <= 0:
        return "-"
    at = datetime.fromtimestamp(millis / 1000)
    seconds = round((at - now()).total_seconds())
    text = f"{at:%H:%M:%S}" if abs(seconds) < 12 * 3600 else f"{at:%Y-%m-%d %H:%M:%S}"
    return f"{text} (in {span(seconds)})" if seconds > 0 else f"{text} ({span(-seconds)} ago)"


def used(model: Mapping[str, Any]) -> str:
    """When a model was last called, from a router's facts about it."""
    return "never called" if model.get("called") is False else moment(model.get("last_used_ms"))


def span(seconds: int) -> str:
    """Whole seconds for people, in the largest unit of which there are two."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
