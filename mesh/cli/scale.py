"""`mesh scale`: how many copies of a service's model there are to be, whatever the load."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format
from mesh.core.errors import Malformed
from mesh.core.scaling.bounds import MOST as MOST_COPIES
from mesh.core.scaling.bounds import bounds_from_json, told
from mesh.manifests.bounds import LEAST, MOST, PINNED, PRELOAD


def scale(
    name: Annotated[str, typer.Argument(help="The service.")],
    least: Annotated[
        int | None, typer.Option("--min", min=0, max=MOST_COPIES, metavar="N", help="Copies that are kept loaded; 0 is none.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", min=0, max=MOST_COPIES, metavar="N", help="Copies that load adds at most; 0 is no limit.")
    ] = None,
    pin: Annotated[bool | None, typer.Option("--pin/--no-pin", help="A loaded copy is never evicted.")] = None,
    preload: Annotated[
        bool | None, typer.Option("--preload/--no-preload", help="Loaded when registered and when a mesh starts, before any call.")
    ] = None,
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, json, yaml or name.")] = Format.table,
    mesh: MeshOption = None,
) -> None:
    """Bounds the copies of a service's model; what is not given stays as it is.

    The bounds are kept as annotations of the service's document (mesh.kserve.io/min-copies and so on). They outlive `mesh down`, and an
    `apply` of a document that says nothing of them; one that does wins.
    """
    with output.plain_errors(usage=(_Usage,)):
        numbers = {LEAST: least, MOST: most}
        flags = {PINNED: pin, PRELOAD: preload}
        wanted = {annotation: str(number) for annotation, number in numbers.items() if number is not None}
        wanted |= {annotation: str(flag).lower() for annotation, flag in flags.items() if flag is not None}
        if not wanted:
            raise _Usage("it reads `mesh scale NAME` with at least one of --min, --max, --pin, --no-pin, --preload, --no-preload")
        service = Control.find(mesh).post(f"services/{name}/bounds", wanted)
        if format_ in (Format.json, Format.yaml):
            shown = {part: service[part] for part in ("name", "kind", "namespace", "model", "bounds", "copies", "change")}
            output.data(shown, format_)
            return
        line = f"{service['kind'].lower()}/{service['name']}"
        if format_ is Format.name:
            output.console.print(line, markup=False)
            return
        bounds = told(bounds_from_json(service["bounds"])) or "none"
        change = "unchanged" if service["change"] == "unchanged" else "scaled"
        output.console.print(f"{line} {change} (bounds on copies: {bounds})", markup=False)


class _Usage(Malformed):
    """The command was called in no way that makes sense."""
