"""`mesh get`: services, models, runtimes and pods, one line each."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format
from mesh.core.errors import Unknown

PAGE = 1000
"""Models asked for at a time."""


class Kind(StrEnum):
    """What can be listed."""

    isvc = "isvc"
    models = "models"
    runtimes = "runtimes"
    pods = "pods"


_WORDS = {
    Kind.isvc: ("isvc", "isvcs", "inferenceservice", "inferenceservices"),
    Kind.models: ("models", "model"),
    Kind.runtimes: ("runtimes", "runtime", "servingruntimes", "servingruntime", "clusterservingruntimes"),
    Kind.pods: ("pods", "pod"),
}


def get(
    kind: Annotated[str, typer.Argument(help="isvc, models, runtimes or pods.")],
    name: Annotated[str | None, typer.Argument(help="Only the one of this name.")] = None,
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, wide, json, yaml or name.")] = Format.table,
    contains: Annotated[str, typer.Option(help="Only names with this text in them.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100_000,
    mesh: MeshOption = None,
) -> None:
    """Lists services (isvc), models, runtimes or pods."""
    with output.plain_errors(usage=(_UnknownKind,)):
        show = _SHOWN[_kind(kind)]
        show(Control.find(mesh), name, format_, contains, limit)


class _UnknownKind(Unknown):
    """A word that names no kind."""


def _kind(word: str) -> Kind:
    for kind, words in _WORDS.items():
        if word.lower() in words:
            return kind
    raise _UnknownKind(f"there is no kind {word!r} to get; there are {', '.join(kind.value for kind in Kind)}")


def _services(control: Control, name: str | None, format_: Format, contains: str, limit: int) -> None:
    found = [one for one in control.get("services", name=name) if contains in one["name"]][:limit]
    documents = [one["document"] for one in found]
    if _as_data(format_, name, documents, [f"inferenceservice/{one['name']}" for one in found]):
        return
    rows = [[one["name"], one["url"], "True" if one["ready"] else "False"] for one in found]
    header = ["NAME", "URL", "READY"]
    if format_ is Format.wide:
        header += ["ADDRESS", "MODEL", "STATE", "MESSAGE"]
        for row, one in zip(rows, found, strict=True):
            state = one["state"] + (f" -> {one['targetState']}" if one["targetState"] else "")
            row += [one["address"], one["model"], state, one["message"].replace("\n", " ")]
    _table(rows, header)


def _models(control: Control, name: str | None, format_: Format, contains: str, limit: int) -> None:
    found = [control.get(f"models/{name}")] if name else models(control, contains, limit)
    if _as_data(format_, name, found, [f"model/{one.get('id', '')}" for one in found]):
        return
    header = ["NAME", "STATE", "COPIES", "SIZE", "LAST USED"]
    rows = []
    for one in found:
        copies = one.get("copies") or []
        weights = [copy["weight_bytes"] for copy in copies if copy.get("weight_bytes") is not None]
        loaded = output.size(max(weights)) if weights else "-"
        rows.append([one.get("id", ""), one.get("state", "-"), str(len(copies)), loaded, output.moment(one.get("last_used_ms"))])
        if format_ is Format.wide:
            rows[-1] += [one.get("type", "-"), one.get("path") or "-", _failure(one)]
    _table(rows, header + (["TYPE", "PATH", "FAILURE"] if format_ is Format.wide else []))


def models(control: Control, contains: str = "", limit: int = 100_000) -> list[dict[str, Any]]:
    """Models by id, fetched page by page; a router that ignores paging answers all at once and is filtered here."""
    found: dict[str, dict[str, Any]] = {}
    after = ""
    while len(found) < limit:
        answer = control.get("models", after=after, limit=PAGE, part=contains)
        page = answer.get("models", []) if isinstance(answer, dict) else answer
        fresh = {one["id"]: one for one in page if one["id"] not in found and contains in one["id"]}
        found |= fresh
        last = max((one["id"] for one in page), default="")
        if len(page) < PAGE or last <= after:
            break
        after = last
    return [found[one] for one in sorted(found)][:limit]


def _runtimes(control: Control, name: str | None, format_: Format, contains: str, limit: int) -> None:
    found = [one for one in control.get("runtimes") if name in (None, one["name"]) and contains in one["name"]][:limit]
    if name and not found:
        raise Unknown(f"there is no runtime {name!r}")
    if _as_data(format_, name, [one["document"] for one in found], [f"{one['kind'].lower()}/{one['name']}" for one in found]):
        return
    header = ["NAME", "FORMATS", "PODS", "CAPACITY"]
    rows = [[one["name"], ",".join(one["formats"]) or "-", str(one["pods"]), output.size(one["capacityBytes"])] for one in found]
    if format_ is Format.wide:
        header += ["KIND", "ORIGIN", "LABELS"]
        for row, one in zip(rows, found, strict=True):
            row += [one["kind"], "built-in" if one["builtIn"] else "applied", ",".join(one["labels"])]
    _table(rows, header)


def _pods(control: Control, name: str | None, format_: Format, contains: str, limit: int) -> None:
    found = [one for one in control.get("pods") if name in (None, one["name"]) and contains in one["name"]][:limit]
    if name and not found:
        raise Unknown(f"there is no pod {name!r}")
    if _as_data(format_, name, found, [f"pod/{one['name']}" for one in found]):
        return
    header = ["NAME", "RUNTIME", "READY", "MODELS", "USED", "CAPACITY", "RESTARTS"]
    rows = []
    for one in found:
        router = one["router"]
        restarts = sum(process["restarts"] for process in one["processes"])
        count = "-" if router.get("models") is None else str(router["models"])
        used, capacity = output.size(router.get("used_bytes")), output.size(router.get("capacity_bytes", one["capacityBytes"]))
        rows.append([one["name"], one["runtime"], "True" if one["ready"] else "False", count, used, capacity, str(restarts)])
        if format_ is Format.wide:
            rows[-1] += [str(router.get("loading", "-")), str(router.get("queue", "-")), output.moment(router.get("oldest_used_ms"))]
    _table(rows, header + (["LOADING", "QUEUED", "OLDEST USED"] if format_ is Format.wide else []))


def _as_data(format_: Format, name: str | None, values: list[Any], names: list[str]) -> bool:
    """Prints JSON, YAML or names; several values are a `List`, as kubectl prints them."""
    if format_ is Format.name:
        for one in names:
            output.console.print(one, markup=False)
        return True
    if format_ not in (Format.json, Format.yaml):
        return False
    output.data(values[0] if name and values else {"apiVersion": "v1", "kind": "List", "items": values}, format_)
    return True


def _table(rows: list[list[str]], header: list[str]) -> None:
    if rows:
        output.table(rows, header)
    else:
        output.errors.print("nothing found", markup=False)


def _failure(model: dict[str, Any]) -> str:
    failures = model.get("failures") or []
    return str(failures[-1].get("message", "")).replace("\n", " ") if failures else "-"


_SHOWN: dict[Kind, Callable[[Control, str | None, Format, str, int], None]] = {
    Kind.isvc: _services,
    Kind.models: _models,
    Kind.runtimes: _runtimes,
    Kind.pods: _pods,
}
