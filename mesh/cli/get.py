"""`mesh get`: services, models, runtimes (`mesh.cli.get_runtimes`) and pods, one line each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from mesh.cli import get_runtimes, output, policies
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format
from mesh.core.errors import Malformed, Unknown
from mesh.core.explaining.status import ModelState

PAGE = 250
"""Models asked for at a time: a router that serves calls writes no long lists."""

_PLACES = 3
"""Copies of a model that a line names, unless it may be wide."""


@dataclass(frozen=True)
class Choice:
    """Which of them are shown."""

    name: str | None = None
    contains: str = ""
    limit: int = 100_000
    pod: str = ""
    state: str = ""


class Kind(StrEnum):
    """What can be listed."""

    isvc = "isvc"
    models = "models"
    runtimes = "runtimes"
    pods = "pods"
    trafficpolicies = "trafficpolicies"


_WORDS = {
    Kind.isvc: ("isvc", "isvcs", "inferenceservice", "inferenceservices"),
    Kind.models: ("models", "model"),
    Kind.runtimes: ("runtimes", "runtime", "servingruntimes", "servingruntime", "clusterservingruntimes"),
    Kind.pods: ("pods", "pod"),
    Kind.trafficpolicies: ("trafficpolicies", "trafficpolicy"),
}


def get(
    kind: Annotated[str, typer.Argument(help="isvc, models, runtimes, pods or trafficpolicies.")],
    name: Annotated[str | None, typer.Argument(help="Only the one of this name.")] = None,
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, wide, json, yaml or name.")] = Format.table,
    contains: Annotated[str, typer.Option(help="Only names with this text in them.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100_000,
    pod: Annotated[str, typer.Option(metavar="POD", help="Only models with a copy there.")] = "",
    state: Annotated[
        str, typer.Option(metavar="STATE", help="Only models in this state, e.g. LOADED, or pods or runtimes, e.g. ready.")
    ] = "",
    mesh: MeshOption = None,
) -> None:
    """Lists services (isvc), models, runtimes, pods or traffic policies."""
    with output.plain_errors(usage=(_UnknownKind, Malformed)):
        wanted = _kind(kind)
        _check_filters(wanted, pod, state)
        _SHOWN[wanted](Control.find(mesh), format_, Choice(name, contains, limit, pod, state))


def _check_filters(kind: Kind, pod: str, state: str) -> None:
    if pod and kind is not Kind.models:
        raise output.usage(f"--pod is for models: `mesh get models --pod {pod}`")
    if state and kind not in (Kind.models, Kind.pods, Kind.runtimes):
        raise output.usage("--state is for models, pods and runtimes")
    known = [one.name for one in ModelState]
    if state and kind is Kind.models and state.upper() not in known:
        raise output.usage(f"--state {state}: there is no such state of a model; there are {', '.join(known)}")


class _UnknownKind(Unknown):
    """A word that names no kind."""


def _kind(word: str) -> Kind:
    for kind, words in _WORDS.items():
        if word.lower() in words:
            return kind
    raise _UnknownKind(f"there is no kind {word!r} to get; there are {', '.join(kind.value for kind in Kind)}")


def _services(control: Control, format_: Format, choice: Choice) -> None:
    name = choice.name
    found = [one for one in control.get("services", name=name) if choice.contains in one["name"]][: choice.limit]
    documents = [one["document"] for one in found]
    if _as_data(format_, name, documents, [f"inferenceservice/{one['name']}" for one in found]):
        return
    rows = [[one["name"], one["url"], "True" if one["ready"] else "False"] for one in found]
    header = ["NAME", "URL", "READY"]
    if format_ is Format.wide:
        header += ["ADDRESS", "MODEL", "STATE", "STATUS", "COPIES", "MESSAGE"]
        for row, one in zip(rows, found, strict=True):
            state = one["state"] + (f" -> {one['targetState']}" if one["targetState"] else "")
            copies = output.bounded(one["copies"]["total"] - one["copies"]["failed"], one["bounds"])
            row += [one["address"], one["model"], state, output.standing(one), copies, one["message"].replace("\n", " ")]
    _table(rows, header)


def _models(control: Control, format_: Format, choice: Choice) -> None:
    name = choice.name
    found = [control.model(name)] if name else models(control, choice)
    if _as_data(format_, name, found, [f"model/{one.get('id', '')}" for one in found]):
        return
    header = ["NAME", "STATUS", "COPIES", "SIZE", "LAST USED"]
    rows = []
    for one in found:
        copies = one.get("copies") or []
        weights = [copy["weight_bytes"] for copy in copies if copy.get("weight_bytes") is not None]
        loaded = output.size(max(weights)) if weights else "-"
        places = _places(copies, len(copies) if format_ is Format.wide else _PLACES)
        rows.append([one.get("id", ""), output.standing(one), places, loaded, output.used(one)])
        if format_ is Format.wide:
            rows[-1] += [one.get("state", "-"), one.get("type", "-"), one.get("path") or "-", _failure(one)]
    _table(rows, header + (["STATE", "TYPE", "PATH", "FAILURE"] if format_ is Format.wide else []))


def _places(copies: list[dict[str, Any]], most: int) -> str:
    """Where the copies are and how, e.g. `pod-0:ready,pod-2:loading`."""
    named = [f"{copy['pod']}:{copy['state']}" for copy in copies[:most]]
    more = [f"+{len(copies) - most}"] if len(copies) > most else []
    return ",".join(named + more) or "-"


def models(control: Control, choice: Choice) -> list[dict[str, Any]]:
    """Models by id, fetched page by page; a page says where the next one begins."""
    found: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None and len(found) < choice.limit:
        wanted = {"part": choice.contains, "pod": choice.pod, "state": choice.state}
        answer = control.get("models", after=after, limit=min(PAGE, choice.limit - len(found)), **wanted)
        found += answer["models"]
        after = answer["next"]
    return found


def pods(control: Control, format_: Format, choice: Choice) -> None:
    """Shows the pods, each with its state and that of its registry."""
    name = choice.name
    every = control.get("pods")
    found = [one for one in every if name in (None, one["name"]) and choice.contains in one["name"]]
    if name and not found:
        raise Unknown(f"there is no pod {name!r}; there are {', '.join(one['name'] for one in every)}")
    found = [one for one in found if choice.state.lower() in ("", one["state"])][: choice.limit]
    if _as_data(format_, name, found, [f"pod/{one['name']}" for one in found]):
        return
    header = ["NAME", "STATE", "MODELS", "USED", "CAPACITY", "FREE", "CACHE AGE", "LOADING", "QUEUED", "REQ/MIN", "PEER", "RESTARTS"]
    wide = format_ is Format.wide
    _table([_pod(one, wide=wide) for one in found], header + (["RUNTIME", "GRPC", "REST", "METRICS"] if wide else []))
    for one in control.get("wanted"):
        output.console.print(wanted(one), markup=False, soft_wrap=True)


def wanted(runtime: dict[str, Any]) -> str:
    """How many pods a runtime wants, and why; within which bounds a mesh on this machine follows that."""
    bounds = f" (from {runtime['least']} to {runtime['most']})" if runtime.get("least") != runtime.get("most") else ""
    return f"{runtime['runtime']}: {runtime['pods']} there, {runtime['wanted']} wanted{bounds}: {runtime['reason']}"


def _pod(pod: dict[str, Any], *, wide: bool) -> list[str]:
    router, now = pod["router"], time.time() * 1000

    def number(name: str) -> str:
        return "-" if router.get(name) is None else str(router[name])

    oldest = router.get("oldest_used_ms")
    row = [
        pod["name"],
        _state(pod),
        number("models"),
        output.size(router.get("used_bytes")),
        output.size(router.get("capacity_bytes", pod.get("capacityBytes"))),
        output.size(router.get("free_bytes")),
        "-" if oldest is None else output.span(max(0, round((now - oldest) / 1000))),
        number("loading"),
        number("queue"),
        number("rpm"),
        pod["peer"] or "-",
        str(sum(process["restarts"] for process in pod["processes"])) if pod["processes"] else "-",
    ]
    return row + [pod.get(name) or "-" for name in ("runtime", "grpc", "rest", "metrics")] if wide else row


def _state(pod: dict[str, Any]) -> str:
    registry = pod["router"].get("registry", {}).get("state", "ready")
    return f"{pod['state']}; registry {registry}" if registry != "ready" else str(pod["state"])


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


def runtimes(control: Control, format_: Format, choice: Choice) -> None:
    """Shows the runtimes, each with its pods."""
    every = control.get("runtimes")
    found = [one for one in every if choice.name in (None, one["name"]) and choice.contains in one["name"]]
    if choice.name and not found:
        raise Unknown(f"there is no runtime {choice.name!r}; there are {', '.join(one['name'] for one in every)}")
    found = [one for one in found if choice.state.lower() in ("", one["health"])][: choice.limit]
    documents = [get_runtimes.with_status(one) for one in found]
    if not _as_data(format_, choice.name, documents, [f"{one['kind'].lower()}/{one['name']}" for one in found]):
        wide = format_ is Format.wide
        _table([get_runtimes.row(one, wide=wide) for one in found], get_runtimes.header(wide=wide))
        for line in get_runtimes.remarks(found, wide=wide):
            output.console.print(line, markup=False, soft_wrap=True)


def _policies(control: Control, format_: Format, choice: Choice) -> None:
    found = [one for one in control.get("policies", name=choice.name) if choice.contains in one["name"]][: choice.limit]
    if not _as_data(format_, choice.name, [one["document"] for one in found], [f"trafficpolicy/{one['name']}" for one in found]):
        _table([policies.row(one) for one in found], policies.HEADER)


_SHOWN: dict[Kind, Callable[[Control, Format, Choice], None]] = {
    Kind.isvc: _services,
    Kind.models: _models,
    Kind.runtimes: runtimes,
    Kind.pods: pods,
    Kind.trafficpolicies: _policies,
}
