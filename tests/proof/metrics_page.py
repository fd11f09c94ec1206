"""Writes the tables of docs/metrics.md from the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

from mesh.telemetry import catalogue
from mesh.telemetry.catalogue import Family

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
TIMED = (catalogue.API_REQUEST, catalogue.INVOKE_MODEL)


def prometheus() -> str:
    """Every metric with type, labels and meaning."""
    return "".join(f"| {' | '.join((names(family), family.kind.value, labels(family), family.meaning))} |\n" for family in catalogue.ALL)


def legacy() -> str:
    """Those that StatsD had under another name."""
    return "".join(f"| `{family.name}` | {legacy_names(family)} |\n" for family in catalogue.ALL if family.statsd is not None)


def names(family: Family) -> str:
    return ", ".join(f"`{name}`" for name in (family.name, family.also) if name)


def labels(family: Family) -> str:
    return ", ".join([*family.labels, *(["[modelId, vModelId]"] if family.per_model else [])])


def legacy_names(family: Family) -> str:
    assert family.statsd is not None
    name = f"model-mesh.{family.statsd.legacy}"
    if family in TIMED:
        return f"`{name}METHOD` (time), `{name}METHOD.CODE` (counter)"
    if family.labels:
        return f"`{name}METHOD.CODE`"
    return f"`{name}`" + (" (time and counter)" if family.statsd.count else " (in units of 8 KiB)" if family.statsd.unit > 1 else "")


def page(text: str) -> str:
    """The page with its tables as they have to be."""
    for title, rows in ((r"\| name \| type \|.*\n\|[-|]+\n", prometheus()), (r"\| name \| legacy name \|\n\|[-|]+\n", legacy())):
        text, found = re.subn(rf"({title})(?:\|.*\n)*", lambda match, rows=rows: match[1] + rows, text)  # type: ignore[misc]
        assert found == 1, title
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
