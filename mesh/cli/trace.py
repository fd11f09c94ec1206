"""`mesh trace`: writes traces for `mesh simulate`, of a mesh that runs or made up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.core.errors import Failed, Malformed, Unavailable

if TYPE_CHECKING:
    from mesh.cli.recording import Recording
    from mesh.simulation.trace import Trace

app = typer.Typer(help="Traces of calls, for `mesh simulate`.", no_args_is_help=True)

_MOST = 10_000_000
"""Calls of a made trace; a greater number is a slip of the finger."""

_PERIOD, _SELDOM = 1.0, 10
"""Seconds between two questions to each pod; at every tenth, which pods there are and how large their models."""

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


@app.command()
def record(
    file: FileArgument,
    seconds: Annotated[float | None, typer.Option(min=1.0, help="How long; without it, until Ctrl-C.", show_default=False)] = None,
    pods: Annotated[
        list[str] | None,
        typer.Option(
            "--pod", metavar="URL", help="A pod of any mesh, by its MM_PROBE_PORT: http://HOST:8089; repeatable.", show_default=False
        ),
    ] = None,
    mesh: MeshOption = None,
) -> None:
    """Writes down who calls what: of the mesh on this machine, or of the pods that are named. Payloads are not recorded.

    The pods keep their calls only while they are asked, up to a bound; nothing has to be switched on before.
    """
    with output.plain_errors(usage=(Malformed,)):
        control = None if pods else Control.find(mesh)
        _write_to_be(file)
        _write(_recorded(lambda: pods or [one["probe"] for one in _status(control)["pods"]], seconds).trace(), file)


def _recorded(pods: Callable[[], list[str]], seconds: float | None) -> Recording:
    from mesh.cli.recording import TIMEOUT, Recording

    recording, begun, looks, urls = Recording(), time.monotonic(), 0, pods()
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as http, output.errors.status("recording") as status:
        try:
            while True:
                passed = time.monotonic() - begun
                if looks % _SELDOM == 0:
                    urls = pods()
                    recording.measure(http, urls)
                if recording.ask(http, urls, lambda: time.monotonic() - begun) == 0 and not recording.calls:
                    raise Unavailable(f"no pod answers ({', '.join(urls)}); is MM_PROBE_PORT reachable from here?")
                called = {model for _, model, _ in recording.calls}
                status.update(f"{len(recording.calls)} calls of {len(called)} models in {passed:.0f} s; Ctrl-C ends it")
                if seconds is not None and passed >= seconds:
                    break
                looks += 1
                time.sleep(_PERIOD if seconds is None else min(_PERIOD, max(0.0, seconds - passed)))
        except KeyboardInterrupt:
            recording.ask(http, urls, lambda: time.monotonic() - begun)
        recording.measure(http, urls)
    if recording.lost:
        output.errors.print(
            f"warning: {recording.lost} calls or loads came faster than they could be fetched and are missing", markup=False
        )
    return recording


def _status(control: Control | None) -> Any:
    assert control is not None
    return control.get("status")


def _write_to_be(file: Path) -> None:
    """Finds out before an hour of recording that its file cannot be written."""
    if str(file) != "-" and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise output.usage(f"{file} cannot be written: it is a folder, or is in none")


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
    said = f"calls: {len(trace.accesses)}, models: {len(trace.models)} ({output.size(size)} together), seconds: {trace.seconds:.0f}"
    output.errors.print(f"{file}: {said}", markup=False)
