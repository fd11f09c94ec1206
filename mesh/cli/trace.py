"""`mesh trace`: writes traces for `mesh simulate`, of a mesh that runs or made up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli import output
from mesh.core.errors import Failed, Malformed

if TYPE_CHECKING:
    from mesh.simulation.trace import Trace

app = typer.Typer(help="Traces of calls, for `mesh simulate`.", no_args_is_help=True)

_MOST = 10_000_000
"""Calls of a made trace; a greater number is a slip of the finger."""

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The CSV that is written; - is standard output.")]


@app.command()
def make(
    file: FileArgument,
    models: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="Models that there are.")] = 200,
    rate: Annotated[float, typer.Option(min=0.001, metavar="PER_SECOND", help="Calls a second, on average.")] = 20.0,
    zipf: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="How unequal: calls of the n-th model in proportion to n^-ZIPF; 0 is all alike.")
    ] = 1.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long it lasts.")] = 600.0,
    size: Annotated[str, typer.Option(metavar="SIZE", help="Of a usual model; two thirds are within a factor of 2.2.")] = "50Mi",
    duration: Annotated[float, typer.Option(min=0.0, metavar="MS", help="Of a call.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same trace.")] = 0,
) -> None:
    """Makes a trace up: few models are called often, most seldom, at random times."""
    with output.plain_errors(usage=(Malformed,)):
        if rate * seconds > _MOST:
            raise output.usage(f"--rate {rate:g} --seconds {seconds:g}: these are {rate * seconds:.0f} calls, more than {_MOST}")
        from mesh.cli.simulate import size_of
        from mesh.simulation.making import Making
        from mesh.simulation.making import make as made

        _write(made(Making(models, rate, zipf, seconds, size_of(size, "--size"), duration, seed)), file)


def _write(trace: Trace, file: Path) -> None:
    from mesh.simulation.trace import write

    try:
        if str(file) == "-":
            write(trace, sys.stdout)
            return
        with file.open("w", newline="", encoding="utf-8") as stream:
            write(trace, stream)
    except OSError as error:
        raise Failed(f"the trace {file} cannot be written: {error.strerror}") from None
    size = sum(model.size or 0 for model in trace.models.values())
    said = f"{len(trace.accesses)} calls of {len(trace.models)} models ({output.size(size)} together) in {trace.seconds:.0f} s"
    output.errors.print(f"{file}: {said}", markup=False)
