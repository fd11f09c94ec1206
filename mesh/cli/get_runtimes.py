"""The lines of `mesh get runtimes`."""

from __future__ import annotations

from typing import Any

from mesh.cli import output

Json = dict[str, Any]

_FORMATS = 4
"""Formats that a line names, unless it may be wide."""


def header(*, wide: bool) -> list[str]:
    """Names of the columns."""
    first = ["NAME", "SERVER", "FORMATS", "PODS", "HEALTH", "MODELS", "USED", "CAPACITY", "FREE"]
    return first + (["KIND", "ORIGIN", "IMAGE", "FOLDER", "LABELS"] if wide else [])


def row(one: Json, *, wide: bool) -> list[str]:
    """One runtime; `PODS` are those that take calls, of those that are wanted."""
    formats = one["formats"] if wide else _shortened(one["formats"])
    line = [
        one["name"],
        one["server"],
        ",".join(formats) or "-",
        _pods(one["pods"]),
        one["health"],
        str(one["models"]) if one["pods"]["there"] else "-",
        output.size(one["usedBytes"]),
        output.size(one["capacityBytes"] if one["capacityBytes"] is not None else one["plannedBytes"]),
        output.size(one["freeBytes"]),
    ]
    if wide:
        origin = "built-in" if one["builtIn"] else "applied"
        line += [one["kind"], origin, one["image"] or "-", one["folder"] or "-", ",".join(one["labels"])]
    return line


def remarks(found: list[Json], *, wide: bool) -> list[str]:
    """What stands below the lines: why a runtime has not its pods; with `wide` also what of its document is not taken over."""
    lines = [f"{one['name']}: {one['whyNot']}" for one in found if one["whyNot"] and (wide or one["health"] != "off")]
    if wide:
        lines += [f"{one['name']}: {note}" for one in found if one["pods"]["there"] or not one["builtIn"] for note in one["notes"]]
    if any(name.endswith("*") for one in found for name in one["formats"]):
        lines.append("* only for services that name the runtime")
    return lines


def with_status(one: Json) -> Json:
    """The document, with what is known of the runtime here as its status."""
    told = {key: value for key, value in one.items() if key not in ("document", "name", "kind")}
    return {**one["document"], "status": told}


def _pods(pods: Json) -> str:
    if not pods["most"] and not pods["there"]:
        return "0"
    wanted = str(pods["least"]) if pods["least"] == pods["most"] else f"{pods['least']}..{pods['most']}"
    return f"{pods['ready']}/{wanted}" + (f" ({pods['outdated']} outdated)" if pods["outdated"] else "")


def _shortened(formats: list[str]) -> list[str]:
    more = len(formats) - _FORMATS
    return [*formats[:_FORMATS], f"+{more}"] if more > 0 else formats
