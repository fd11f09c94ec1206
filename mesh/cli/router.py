"""`mesh router` and `mesh settings`: one router, configured by nothing but its environment."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import output
from mesh.cli.output import Format


def router() -> None:
    """Runs one router beside a model server, configured by the environment (`mesh settings` lists the variables)."""
    with output.plain_errors():
        # Imported here: the other commands need no server and start in half the time.
        from mesh.router import run

        code = run()
    raise typer.Exit(code)


def settings(
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")] = Format.table,
) -> None:
    """Lists every setting of the router: names, default, unit, meaning."""
    from mesh.settings import describe

    rows = describe()
    if format_ in (Format.json, Format.yaml):
        output.data(rows, format_)
        return
    output.table(
        [[row["names"][0], row["default"] or "-", row["unit"] or "-", row["meaning"]] for row in rows],
        ["NAME", "DEFAULT", "UNIT", "MEANING"],
    )
