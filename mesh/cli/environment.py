"""`mesh environment`: the model servers' environments, made once and kept in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mesh.cli import output
from mesh.cli.output import Format
from mesh.core.errors import Unknown
from mesh.local import environments
from mesh.local.environments import Environment, Step

_TIMES = {"etcd": "some seconds"}

app = typer.Typer(help="Environments of model servers, made once and kept in the cache.", no_args_is_help=True)


@app.command("make")
def make(name: Annotated[str, typer.Argument(help="A name that `mesh environment list` prints.")]) -> None:
    """Makes the environment unless it is made, and prints its folder."""
    with output.plain_errors(usage=(Unknown,)):
        output.console.print(str(ensure(name)), markup=False)


@app.command("list")
def show(format_: Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")] = Format.table) -> None:
    """Lists the environments and whether they are made."""
    known = environments.known()
    if format_ in (Format.json, Format.yaml):
        output.data([{"name": one.name, "made": one.made, "path": str(one.path)} for one in known], format_)
        return
    output.table([[one.name, "yes" if one.made else "no", str(one.path)] for one in known], ["NAME", "MADE", "PATH"])


def ensure(wanted: str | Environment) -> Path:
    """The environment's folder; a bar shows the progress if it has to be made. Errors as `environments.ensure`."""
    environment = environments.find(wanted) if isinstance(wanted, str) else wanted
    name = environment.name
    if environment.made:
        return environment.path
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.errors, transient=not output.errors.is_terminal) as bar:
        task = bar.add_task(f"{name}: the first use makes its environment ({_TIMES.get(name, 'about a minute')})", total=None)
        said = ""

        def report(step: Step) -> None:
            nonlocal said
            bar.update(task, description=f"{name}: {step.text}", completed=step.done, total=step.total)
            told = _told(step)
            if not output.errors.is_terminal and told != said:
                said = told
                output.errors.print(f"{name}: {told} …", markup=False)

        return environments.ensure_made(environment, progress=report)


def _told(step: Step) -> str:
    """What a log says of a step: one line for every twenty packages that are fetched, one for any other."""
    if step.text.partition(" ")[0] in ("collecting", "downloading"):
        return f"fetching packages ({step.done // 20 * 20} so far)"
    return step.text
