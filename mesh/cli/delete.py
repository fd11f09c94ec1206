"""`mesh delete`: documents out of the mesh."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.cli.kinds import document_kind
from mesh.core.errors import Malformed, Unknown
from mesh.manifests.parsing import parse
from mesh.manifests.reading import read_path


def delete(
    kind: Annotated[str | None, typer.Argument(help="isvc, predictor, runtime, clusterruntime, pvc, secret or trafficpolicy.")] = None,
    names: Annotated[list[str] | None, typer.Argument(help="Names.")] = None,
    file: Annotated[list[str] | None, typer.Option("--filename", "-f", help="Delete what these documents name; repeatable.")] = None,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="What is not there is no error.")] = False,
    mesh: MeshOption = None,
) -> None:
    """Deletes documents; the models of deleted services are unloaded, the files of deleted claims stay."""
    with output.plain_errors(usage=(_Usage,)):
        if bool(file) == bool(kind and names):
            raise _Usage("it reads `mesh delete isvc NAME…` or `mesh delete -f FILE`")
        if file:
            documents = [one.document for path in file for one in parse(read_path(path))]
            wanted = [(str(document.kind), document.name) for document in documents]
        else:
            wanted = [(document_kind(str(kind)), name) for name in names or []]
        control = Control.find(mesh)
        missing = []
        for one, name in wanted:
            try:
                note = control.delete(f"documents/{one}/{name}")["note"]
            except Unknown as error:
                missing.append(error.message)
                continue
            output.console.print(f"{one.lower()}/{name} deleted" + (f" ({note})" if note else ""), markup=False)
        if missing and not ignore_not_found:
            raise Unknown("\n".join(missing))


class _Usage(Malformed):
    """The command was called in no way that makes sense."""
