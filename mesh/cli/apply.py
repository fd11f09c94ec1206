"""`mesh apply`: documents to the mesh."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format
from mesh.core.errors import Failed, Malformed
from mesh.manifests.documents import InferenceService, Predictor
from mesh.manifests.parsing import Applied, parse
from mesh.manifests.predictor import registration
from mesh.manifests.reading import Source, read_path

_CALLED = (InferenceService, Predictor)


def apply(
    file: Annotated[list[str], typer.Option("--filename", "-f", help="A file, a folder, or - for standard input; repeatable.")],
    wait: Annotated[float | None, typer.Option("--wait", metavar="SECONDS", min=0, help="Wait until every service in it is ready.")] = None,
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, json, yaml or name.")] = Format.table,
    mesh: MeshOption = None,
) -> None:
    """Applies documents: InferenceService, ServingRuntime, PersistentVolumeClaim and more; all or none of them."""
    with output.plain_errors():
        batch = parse(_sources(file))
        for one in batch:
            if isinstance(one.document, _CALLED):
                registration(one.document, one.origin)
        control = Control.find(mesh)
        results = control.post("documents", [{"document": one.raw, "origin": one.origin} for one in batch])
        if format_ in (Format.json, Format.yaml):
            output.data(results, format_)
        else:
            for one in results:
                _tell(one, one["note"].splitlines() if format_ is not Format.name else [])
        if wait is not None:
            _wait(control, batch, wait)


def _tell(result: Mapping[str, str], notes: Sequence[str]) -> None:
    """What became of one document. Of several notes, each has a line of its own."""
    said = f"{result['kind'].lower()}/{result['name']} {result['change']}"
    output.console.print(f"{said} ({notes[0]})" if len(notes) == 1 else said, markup=False)
    for note in notes if len(notes) > 1 else ():
        output.console.print(f"  {note}", markup=False)


def _sources(files: list[str]) -> list[Source]:
    """All that can be read; what cannot is told together."""
    sources, faults = [], []
    for file in files:
        try:
            sources += read_path(file)
        except Malformed as error:
            faults.append(error.message)
    if faults:
        raise Malformed("\n".join(faults))
    return sources


def _wait(control: Control, batch: list[Applied], limit: float) -> None:
    """Until each service is loaded, or idle and loadable. Failed at once when one fails, or after `limit` seconds."""
    deadline = time.monotonic() + limit
    for name in [one.document.name for one in batch if isinstance(one.document, _CALLED)]:
        while True:
            service: dict[str, Any] = control.get("services", name=name)[0]
            canary = service["canary"]
            if service["settled"] and service["ready"] and not service["targetState"] and (canary is None or canary["settled"]):
                break
            if service["settled"] and canary is not None and canary["state"] == "FailedToLoad":
                raise Failed(f"{name}: {canary['text']}")
            if service["settled"] and service["state"] == "FailedToLoad":
                raise Failed(f"{name} failed: {service['message']}")
            if time.monotonic() >= deadline:
                raise Failed(f"{name} is not ready after {limit:g} s: {service['state']} {service['message']}".rstrip())
            time.sleep(0.1)
