"""`mesh explain`: why a model is where it is, what a pod did, what became of a request; what would change it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format
from mesh.cli.retold import Retold, clock, retold
from mesh.core.errors import Malformed
from mesh.core.placement.evidence import PlacementEvidence
from mesh.core.registry.records import NO_BOUNDS, Bounds
from mesh.core.scaling.bounds import told
from mesh.local import explanations
from mesh.local.addressed import AddressedPods

_ALL = 1000
"""Decisions of a pod that are made again if all are."""

_EVENTS = 20
"""Latest lines of what happened that are shown; `-o json` has more."""


def explain(
    name: Annotated[str | None, typer.Argument(help="A service, a model, a pod or a request id; its first letters are enough.")] = None,
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")] = Format.table,
    kind: Annotated[str, typer.Option(metavar="KIND", help="What the name is: isvc, model, pod or request.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Decisions that each pod tells.")] = 20,
    verify: Annotated[bool, typer.Option("--verify", help="Make every decision again from its recorded inputs, here.")] = False,
    at: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT,…", help="The probe ports of a mesh's pods (MM_PROBE_PORT), if it runs elsewhere.", envvar="MESH_AT"
        ),
    ] = "",
    mesh: MeshOption = None,
) -> None:
    """Tells why: how it is, what was decided and by what, who lost and by how much, and what would change it.

    A request's id is the one that its client sent (mm-request-id, x-request-id, or the trace id of traceparent), or the one that came back
    with an answer or an error (mm-request-id). With --verify and no name all decisions that the pods remember are made again; exit code 1
    if one comes out differently.
    """
    with output.plain_errors(usage=(Malformed,)):
        name = name or None
        if name is None and not verify:
            raise output.usage("it reads `mesh explain NAME`, of a service, a model, a pod or a request; or `mesh explain --verify`")
        document = _asked_at(at, name, kind, limit) if at else _asked(Control.find(mesh), name, kind, limit)
        found = retold(document["views"])
        if format_ in (Format.json, Format.yaml):
            parts = {part: value for part, value in document.items() if part != "views"}
            output.data({**parts, "decisions": [one.document(verified=verify) for one in found]}, format_)
        elif verify:
            _verified(found)
        else:
            output.console.print("\n".join(_PAGES[document["kind"]](document, found)), markup=False)
            for pod in document["silent"]:
                output.errors.print(f"{pod} does not answer: what it decided is missing here", markup=False)
        if verify and any(one.holds is False for one in found):
            raise typer.Exit(output.FAILED)


def _asked(control: Control, name: str | None, kind: str, limit: int) -> dict[str, Any]:
    if name is None:
        return {"kind": "mesh", "name": "", "views": control.get("decisions")}
    document: dict[str, Any] = control.get("explain", name=name, kind=kind, limit=limit)
    return document


def _asked_at(at: str, name: str | None, kind: str, limit: int) -> dict[str, Any]:
    pods = AddressedPods([address.strip() for address in at.split(",") if address.strip()])
    if name is None:
        return {"kind": "mesh", "name": "", "views": asyncio.run(explanations.decisions(pods, _ALL))}
    return asyncio.run(explanations.explain(pods, name, kind, limit))


def _verified(found: Sequence[Retold]) -> None:
    told_apart = Counter((one.kind, one.holds) for one in found)
    rows = [[kind, *(str(told_apart[kind, holds]) for holds in (True, False, None))] for kind in sorted({one.kind for one in found})]
    output.table(rows, ["DECISION", "SAME", "DIFFERENT", "NO INPUTS"])
    for one in found:
        if one.holds is False:
            again = one.evidence.again() if one.evidence is not None else ""
            output.console.print(f"{one.line()}\n  decided {one.told['outcome']!r} then, {again!r} now", markup=False)


# Pages


def _model_page(document: dict[str, Any], found: Sequence[Retold]) -> Iterator[str]:
    model, service = document.get("model"), document.get("service")
    if document["kind"] == "isvc":
        yield f"Service {document['name']}" + (f", model {model['id']}" if model else "")
    else:
        yield f"Model {document['name']}" + ("" if model else ": it is not registered (any more)")
    yield from output.pairs([*_state(document, model, service), *_moving(document)])
    yield from _copies(model)
    yield from _blocks(document, found)
    yield from _events(found, model)
    yield from _hints(document, model, found)


def _state(document: dict[str, Any], model: dict[str, Any] | None, service: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if model:
        yield "Status", output.standing(model)
    elif service:
        yield "Status", f"not registered: {service['message'] or service['state']}"
    if service and service["message"] and not service["ready"]:
        yield "Message", service["message"]
    if model:
        yield "Last used", output.used(model)
        yield "Bounds", told(_bounds(document)) or "none"


def _bounds(document: dict[str, Any]) -> Bounds:
    """What users want, by the first pod that tells it."""
    return next((Bounds(**view["bounds"]) for view in document["views"].values() if view.get("bounds")), NO_BOUNDS)


def _moving(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if target := document.get("target"):
        yield "Moving to", f"{target['id']}: {output.standing(target)}"


def _copies(model: dict[str, Any] | None) -> Iterator[str]:
    copies = (model or {}).get("copies") or []
    if copies:
        rows = [
            [one["pod"], one["state"], output.moment(one.get("since_ms")), output.size(one.get("weight_bytes")), str(one.get("calls", "-"))]
            for one in copies
        ]
        yield from output.columns(rows, ["COPY ON", "STATE", "SINCE", "SIZE", "CALLS"])


def _blocks(document: dict[str, Any], found: Sequence[Retold]) -> Iterator[str]:
    """The decisions that made things what they are: the latest of each sort, oldest first."""
    titles: dict[str, Callable[[Retold], str]] = {
        "placement": lambda one: f"Why {one.told['outcome']}?" if one.told["outcome"] else "Why nowhere?",
        "eviction": lambda one: f"Why was it evicted from {one.pod}?",
        "scale-up": lambda _: "Why more copies?",
        "scale-down": lambda one: "Why not fewer copies?" if one.told["outcome"] == "0" else "Why fewer copies?",
        "retry": lambda _: "Why was a call made again?",
        "refusal": lambda _: "Why was a call refused?",
        "repair": lambda _: "Why was its record changed?",
    }
    names = {document["name"], (document.get("model") or {}).get("id")}
    own = [one for one in found if one.told["model"] in names or one.kind != "eviction"]
    latest = {one.kind: one for one in own if one.kind in titles}
    if "refusal" in latest and latest["refusal"].at - latest.get("retry", latest["refusal"]).at in range(1000):
        # What was refused in the end says why more fully than the tries before.
        latest.pop("retry", None)
    for one in sorted(latest.values(), key=lambda one: one.at):
        yield ""
        yield f"{titles[one.kind](one)}  {one.line()}"
        yield from one.details()


def _events(found: Sequence[Retold], model: dict[str, Any] | None) -> Iterator[str]:
    story = [(line["at_ms"], f"{clock(line['at_ms'])}  {line.get('pod', '')}  {line['text']}") for line in (model or {}).get("story") or []]
    events = sorted([*story, *((one.at, one.line()) for one in found)], key=lambda event: event[0])
    if events:
        yield ""
        yield "What happened" if len(events) <= _EVENTS else f"What happened (the last {_EVENTS} of {len(events)})"
        yield from (f"  {line}" for _, line in events[-_EVENTS:])


def _hints(document: dict[str, Any], model: dict[str, Any] | None, found: Sequence[Retold]) -> Iterator[str]:
    """What would change how it is now."""
    word = (model or {}).get("status_word")
    name = document["name"] if document["kind"] == "isvc" else "SERVICE"
    hints: list[str] = []
    if word == "resident":
        hints += _keeping(name, len((model or {}).get("copies") or []), _bounds(document))
    elif word == "on demand":
        hints.append(f"a call loads it; `mesh scale {name} --min 1` keeps a copy loaded")
    elif word in ("failing", "failed for good"):
        refusal = next((one for one in reversed(found) if one.kind == "refusal" and one.evidence is not None), None)
        hints += refusal.evidence.would_change() if refusal is not None and refusal.evidence is not None else ()
    if hints:
        yield ""
        yield "What would change it"
        yield from (f"  - {hint}" for hint in hints)


def _keeping(name: str, copies: int, bounds: Bounds) -> Iterator[str]:
    """What would make a model that serves go, or keep it."""
    if copies < bounds.least:
        yield f"{bounds.least} copies are wanted and {copies} there: each further one needs another pod that can take it (`mesh get pods`)"
    if bounds.pinned:
        yield f"it is pinned, and is not evicted; `mesh scale {name} --no-pin` lets it go"
    elif copies <= bounds.least:
        yield f"it has no more copies than its minimum of {bounds.least}, and is not evicted; `mesh scale {name} --min 0` lets it go"
    else:
        yield "it is evicted when its pod needs room and it is the one used longest ago there: a call now makes it the last to go"
        yield f"`mesh scale {name} --pin` keeps it; `mesh scale {name} --min {copies + 1}` has one copy more"


def _pod_page(document: dict[str, Any], found: Sequence[Retold]) -> Iterator[str]:
    name, row = document["name"], document.get("row") or {}
    figures = {**(row.get("router") or {}), **((document["views"].get(name) or {}).get("figures") or {})}
    yield f"Pod {name}"
    yield from output.pairs([("State", row.get("state") or "unknown"), *_load(figures)])
    own = [one for one in found if one.pod == name]
    yield from _sent(name, [one for one in found if one.kind == "placement"])
    for title, kind in (
        ("Evicted", "eviction"),
        ("Refused", "refusal"),
        ("Retried", "retry"),
        ("Copies more", "scale-up"),
        ("Copies fewer", "scale-down"),
        ("Model server recycled", "recycle"),
    ):
        listed = [one for one in own if one.kind == kind]
        if listed:
            yield ""
            yield f"{title} lately ({len(listed)})"
            yield from (f"  {one.line()}" for one in listed[-_EVENTS // 2 :])
    last = next((one for one in reversed(own) if one.kind == "eviction"), None)
    if last is not None:
        yield ""
        yield f"Why {last.told['model']} of all?  {last.line()}"
        yield from last.details()


def _load(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if figures.get("capacity_bytes") is None:
        return
    used, capacity = output.size(figures.get("used_bytes")), output.size(figures["capacity_bytes"])
    yield "Cache", f"{output.counted(figures.get('models', 0), 'model')}, {used} of {capacity} used"
    if figures.get("oldest_used_ms"):
        yield "Oldest", f"its least recently used model was used at {output.moment(figures['oldest_used_ms'])}"
    yield "Load", f"{figures.get('loading', 0)} loading, {figures.get('queue', 0)} queued, {figures.get('rpm', 0)} requests a minute"
    yield from _memory(figures.get("memory"))
    if figures.get("labels"):
        yield "Labels", ", ".join(figures["labels"])


def _memory(told: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What the model server really holds, as the pod itself tells it."""
    if told is None:
        return
    if told["state"] == "unknown":
        yield "Memory", f"what the model server holds is not known: {told['why']}"
        return
    parts = f"{output.size(told['empty_bytes'])} without models, {output.size(told['models_bytes'])} for models"
    held = f"the model server holds {output.size(told['held_bytes'])}: {parts}, {output.size(told['unused_bytes'])} held but not used"
    if told["recycling"]:
        next_ = "\nits model server is being recycled: it begins anew"
    elif told["put_off"]:
        next_ = f"\nit is not recycled yet: {told['put_off']}"
    elif told["recycle_at_bytes"]:
        limit = output.size(told["recycle_at_bytes"])
        next_ = f"\nit is recycled when it leaks and that exceeds {limit}; so far {output.counted(told['recycled'], 'time')}"
    else:
        next_ = ""
    yield "Memory", f"{held}\n{told['state']}: {told['why']}{next_}"


def _sent(name: str, placements: Sequence[Retold]) -> Iterator[str]:
    """How often the pod was chosen to load a model, and why not."""
    lost: Counter[str] = Counter()
    chosen = 0
    for one in placements:
        if one.told["outcome"] == name:
            chosen += 1
        elif isinstance(one.evidence, PlacementEvidence) and any(place.pod == name for place in one.evidence.given.places):
            rules = one.evidence.given.choose(trace=True).rules
            lost[next((rule for pod, rule in rules.items() if pod == name), "as good as the chosen one, whose turn it was")] += 1
    if chosen or lost:
        yield ""
        yield f"Of the last {output.counted(chosen + lost.total(), 'placement')} that the pods remember, {chosen} went to it"
        yield from (f"  {count:4} did not: {rule}" for rule, count in lost.most_common())


def _request_page(document: dict[str, Any], found: Sequence[Retold]) -> Iterator[str]:
    models = dict.fromkeys(one.told["model"] for one in found if one.told["model"] and one.kind != "eviction")
    pods = dict.fromkeys(one.pod for one in found)
    yield f"Request {document['name']}" + (f", for {', '.join(models)}" if models else "")
    yield f"{output.counted(len(found), 'decision')} on {', '.join(pods)}; a call that finds its model serving needs none"
    for one in found:
        yield ""
        yield one.line()
        yield from one.details()
    yield from _follow(models)


def _follow(models: Iterable[str]) -> Iterator[str]:
    yield ""
    yield from (f"`mesh explain {model}` tells how the model is now" for model in models)


_PAGES: dict[str, Callable[[dict[str, Any], Sequence[Retold]], Iterator[str]]] = {
    "isvc": _model_page,
    "model": _model_page,
    "pod": _pod_page,
    "request": _request_page,
}
