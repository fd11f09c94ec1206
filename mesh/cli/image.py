"""`mesh image`: the folders that stand for containers' images, of a mesh that runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format
from mesh.core.errors import Malformed
from mesh.local import images

app = typer.Typer(help="Folders that stand for containers' images, kept with the mesh.", no_args_is_help=True)


@app.command("set")
def put(
    image: Annotated[str, typer.Argument(metavar="REF=DIR", help="An image, with or without tag, and its folder.")],
    mesh: MeshOption = None,
) -> None:
    """Names the folder for an image; pods of runtimes that have it are started, or replaced if the folder changed."""
    with output.plain_errors(usage=(Malformed,)):
        reference, folder = images.option(image)
        users = Control.find(mesh).post("images", {"reference": reference, "folder": str(folder)})["usedBy"]
        used = f"used by {', '.join(users)}" if users else "no runtime uses it yet"
        output.console.print(f"image/{reference} set ({used})", markup=False)


@app.command("remove")
def remove(reference: Annotated[str, typer.Argument(metavar="REF")], mesh: MeshOption = None) -> None:
    """Forgets the folder of an image; pods that run go on."""
    with output.plain_errors():
        Control.find(mesh).post("images", {"reference": reference, "folder": ""})
        output.console.print(f"image/{reference} removed", markup=False)


@app.command("list")
def show(
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")] = Format.table, mesh: MeshOption = None
) -> None:
    """Lists images and their folders."""
    with output.plain_errors():
        found = Control.find(mesh).get("images")
        if format_ in (Format.json, Format.yaml):
            output.data(found, format_)
        else:
            output.table([[reference, folder] for reference, folder in found.items()], ["IMAGE", "FOLDER"])
