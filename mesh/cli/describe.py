"""`mesh describe`: all that is known of one service or one model, and why."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mesh.cli import output, policies
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format
from mesh.core.errors import MeshError, Unknown

_STORY = 15
"""Latest lines of a model's story that are shown; `-o json` has them all."""


def describe(
    kind: Annotated[str, typer.Argument(help="isvc, model or trafficpolicy.")],
    name: Annotated[str, typer.Argument(help="The name of the service, or the id of the model.")],
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")] = Format.table,
    mesh: MeshOption = None,
) -> None:
    """Shows a service or a model: what it is, how it is, what failed, when it is tried again, where its copies are."""
    with output.plain_errors(usage=(_UnknownKind,)):
        if kind.lower() in ("isvc", "isvcs", "inferenceservice", "inferenceservices", "predictor"):
            control = Control.find(mesh)
            service = control.get("services", name=name)[0]
            model = _model(control, service["model"])
            if format_ in (Format.json, Format.yaml):
                output.data({**service, "router": model}, format_)
                return
            output.fields(_service(service, model))
            _show(model, service["bounds"])
        elif kind.lower() in ("model", "models"):
            model = _registered(Control.find(mesh), name)
            if format_ in (Format.json, Format.yaml):
                output.data(model, format_)
                return
            output.fields([("Model", name), *_facts(model)])
            _show(model)
        elif kind.lower() in ("trafficpolicy", "trafficpolicies"):
            policies.describe(Control.find(mesh), name, format_)
        else:
            raise _UnknownKind(
                f"there is no kind {kind!r} to describe; there are isvc, model and trafficpolicy; `mesh explain POD` tells of a pod"
            )


class _UnknownKind(Unknown):
    """A word that names no kind."""


def _registered(control: Control, model: str) -> dict[str, Any]:
    """Unknown, in the user's words, if there is none."""
    try:
        found: dict[str, Any] = control.model(model)
    except Unknown:
        raise Unknown(f"there is no model {model!r}; `mesh get models` lists them") from None
    return found


def _model(control: Control, model: str) -> dict[str, Any]:
    """What the router tells; nothing if it does not know the model yet or does not answer."""
    try:
        answer = control.model(model)
    except MeshError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _service(service: dict[str, Any], model: dict[str, Any]) -> list[tuple[str, str]]:
    state = service["state"] + (f" (successor: {service['targetState']})" if service["targetState"] else "")
    metadata = service["document"]["metadata"]
    notes = "\n".join(f"{name}: {value}" for name, value in metadata.get("annotations", {}).items())
    return [
        ("Name", service["name"]),
        ("Namespace", service["namespace"]),
        ("Annotations", notes or "none"),
        ("URL", service["url"] or "none while it is not ready"),
        ("Address", f"{service['address']} (REST), {service['grpcAddress']} (gRPC)"),
        ("Ready", "True" if service["ready"] else "False"),
        ("State", state),
        ("Status", output.standing(model or service)),
        ("Transition", service["transition"]),
        ("Message", service["message"] or "none"),
        ("Model", service["model"]),
        ("Type", service["type"]),
        ("Path", service["path"]),
        ("Storage", _storage(service["key"])),
        ("Predictor", json.dumps(service["document"]["spec"]["predictor"], indent=2)),
    ]


def _storage(key: str) -> str:
    found = json.loads(key)
    parts = [f"key {found['storage_key']}"] if "storage_key" in found else []
    parts += [f"{name}={value}" for name, value in found.get("storage_params", {}).items()]
    return ", ".join(parts) or "default"


def _facts(model: dict[str, Any]) -> list[tuple[str, str]]:
    names = (("State", "state"), ("Type", "type"), ("Path", "path"), ("Key", "key"))
    return [("Status", output.standing(model)), *((title, str(model[name])) for title, name in names if model.get(name) is not None)]


def _show(model: dict[str, Any], bounds: dict[str, Any] | None = None) -> None:
    """Copies, failures and story, each only if the router tells it."""
    copies = model.get("copies") or []
    if model:
        output.fields([("Last used", output.used(model)), ("Copies", output.bounded(len(copies), bounds or {}))])
    if copies:
        rows = [
            [
                str(copy.get("pod", "-")),
                str(copy.get("state", "-")),
                output.moment(copy.get("since_ms")),
                output.size(copy.get("weight_bytes")),
                str(copy.get("calls", "-")),
                str(copy.get("waiting", "-")),
            ]
            for copy in copies
        ]
        for line in output.columns(rows, ["POD", "STATE", "SINCE", "SIZE", "CALLS", "WAITING"]):
            output.console.print(f"  {line}", markup=False)
    for failure in model.get("failures") or []:
        output.console.print("Load failed:", markup=False)
        pairs = [("  On", str(failure.get("pod", "-"))), ("  At", output.moment(failure.get("at_ms")))]
        pairs += [("  Tried again", output.moment(failure.get("retry_at_ms"))), ("  Because", str(failure.get("message", "-")))]
        output.fields(pairs)
    story = model.get("story") or []
    if story:
        output.console.print("Story:" if len(story) <= _STORY else f"Story (the last {_STORY} of {len(story)}):", markup=False)
        for line in story[-_STORY:]:
            output.console.print(f"  {_line(line)}", markup=False)


def _line(entry: Any) -> str:
    if isinstance(entry, dict):
        at = output.moment(entry.get("at_ms"))
        pod = f"{entry['pod']}  " if "pod" in entry else ""
        return f"{at}  {pod}{entry.get('text') or entry.get('message') or entry}"
    return str(entry)
