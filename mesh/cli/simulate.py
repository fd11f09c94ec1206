"""`mesh simulate`: what a mesh, or the same pods without one, would have done with the calls of a trace."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mesh.cli import output
from mesh.cli.output import Format
from mesh.core.errors import Failed, Malformed
from mesh.settings import Settings, describe

if TYPE_CHECKING:
    from mesh.simulation.replay import Setup
    from mesh.simulation.report import Report
    from mesh.simulation.trace import Trace

_POLICIES = ("mesh", "random", "hashed")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_LEAST, _LEAST_CAPACITY = 1 << 10, 1 << 20
_FEW = 100
"""Calls between two strokes of the progress bar."""


def simulate(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="CSV with time_s, model, size_bytes, load_ms[, duration_ms, type].")],
    pods: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Pods that there are.")] = 3,
    capacity: Annotated[str, typer.Option(metavar="SIZE", help="Memory for models of each pod, e.g. 2Gi or 500MB.")] = "1Gi",
    slots: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Loads at a time of each pod.")] = 2,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="mesh|random|hashed",
            help="mesh: one cache. random, hashed: pods that know nothing of each other, with calls at random or by the model's name. "
            "Repeatable: they stand side by side.",
            show_default="mesh",
        ),
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Of each call; else the mesh's own limit.", show_default=False)
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A router's setting (`mesh settings`); repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn; the same seed gives the same report.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Also draw the course over time to this file.", show_default=False)
    ] = None,
    format_: Annotated[
        Format, typer.Option("--output", "-o", help="table, wide (with the course over time), json or yaml.")
    ] = Format.table,
) -> None:
    """Replays a trace of calls on simulated pods: hit rate, time to the first answer, loads, evictions, copies over time."""
    with output.plain_errors(usage=(Malformed,)):
        wanted = list(dict.fromkeys(policy or ["mesh"]))
        for word in wanted:
            if word not in _POLICIES:
                raise output.usage(f"--policy {word}: there is no such policy; there are {', '.join(_POLICIES)}")
        if plot and plot.suffix.lower() != ".svg":
            raise output.usage(f"--plot {plot}: the drawing is an SVG; name a file that ends with .svg")
        from mesh.simulation import trace as traces  # the simulator takes a moment to import, which a slip need not spend
        from mesh.simulation.replay import Policy, Setup

        memory = size_of(capacity, "--capacity")
        if memory < _LEAST_CAPACITY:
            raise output.usage(f"--capacity {capacity}: a pod has at least 1 MiB for models")
        setups = [Setup(pods, memory, slots, Policy(word), seed, deadline, _settings(setting or [])) for word in wanted]
        reports = _replayed(traces.read(trace), setups)
        _draw(plot, reports, trace)
        _show(reports, format_)
        if any(report.complaints for report in reports):
            raise Failed(
                "the simulated mesh did what it never should, so do not rely on these figures; report it with the trace and the seed"
            )


def _replayed(trace: Trace, setups: list[Setup]) -> list[Report]:
    from mesh.simulation.replay import replay

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    reports = []
    with Progress(*columns, console=output.errors, transient=True, disable=not sys.stderr.isatty()) as progress:
        for setup in setups:
            task, begun = progress.add_task(f"{setup.policy.value}: calls", total=len(trace.accesses)), 0

            def advance(more: int, task: Any = task) -> None:
                nonlocal begun
                begun += more
                if begun % _FEW == 0:
                    progress.update(task, completed=begun)

            reports.append(replay(trace, setup, advance))
    return reports


def size_of(text: str, option: str) -> int:
    """Bytes of a size such as 2Gi, 512MiB, 1.5GB or 1073741824.

    Raises:
        Malformed: it is none, or none that makes sense.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    factor = _UNITS.get(found[2]) if found else None
    if found is None or factor is None:
        raise output.usage(f"{option} {text}: it is no size; it reads e.g. 2Gi, 512MiB, 1.5GB or a number of bytes")
    amount = int(float(found[1]) * factor)
    if not _LEAST <= amount < 1 << 60:
        raise output.usage(f"{option} {text}: it is at least 1 KiB, and less than an exbibyte")
    return amount


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Settings by the names of their fields; their values as a router would read them."""
    fields = {name: field for row, field in zip(describe(), Settings.model_fields, strict=True) for name in row["names"]}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise output.usage(f"--set {pair}: it reads --set NAME=VALUE, e.g. --set MM_LOAD_FAILURE_EXPIRY_TIME_MS=60000")
        if name not in fields:
            raise output.usage(f"--set {pair}: there is no setting {name}; `mesh settings` lists them")
        found[fields[name]] = getattr(Settings.load(**{name: value}), fields[name])
    return found


def _draw(plot: Path | None, reports: list[Report], trace: Path) -> None:
    """Writes one drawing for each policy; with several, the name of each stands in that of its file."""
    from mesh.simulation.plot import svg

    for report in reports if plot else []:
        assert plot is not None
        policy = report.setup["policy"]
        path = plot if len(reports) == 1 else plot.with_stem(f"{plot.stem}-{policy}")
        setup = report.setup
        try:
            path.write_text(
                svg(report, f"{trace.name}: {policy}, {setup['pods']} pods of {output.size(setup['capacity'])}"), encoding="utf-8"
            )
        except OSError as error:
            raise Failed(f"--plot {path} cannot be written: {error.strerror}") from None


def _show(reports: list[Report], format_: Format) -> None:
    if format_ in (Format.json, Format.yaml):
        told = [report.to_json() for report in reports]
        output.data(told[0] if len(told) == 1 else told, format_)
        return
    from mesh.simulation.plot import terminal

    for note in reports[0].notes:
        output.errors.print(f"note: {note}", markup=False)
    rows = _rows([report.to_json() for report in reports])
    output.table(rows, ["", *(report.setup["policy"].upper() for report in reports)])
    for report in reports:
        output.console.print()
        output.console.print("\n".join([f"{report.setup['policy']} over time", *terminal(report)]), markup=False)
        for complaint in report.complaints[:5]:
            output.errors.print(f"wrong: {complaint}", markup=False)
    if format_ is Format.wide:
        _course(reports)


def _rows(told: list[dict[str, Any]]) -> list[list[str]]:
    def ms(one: dict[str, Any], spread: str, part: str) -> str:
        return f"{one[spread][part]:.0f} ms" if one[spread] else "-"

    return [
        ["calls", *(str(one["calls"]) for one in told)],
        ["hit rate", *(f"{100 * one['hitRate']:.1f} %" for one in told)],
        ["first answer of a cold model, median", *(ms(one, "timeToFirstInferenceMs", "median") for one in told)],
        ["  of 95 % of them within", *(ms(one, "timeToFirstInferenceMs", "p95") for one in told)],
        ["answer of a loaded model, median", *(ms(one, "hitMs", "median") for one in told)],
        ["loads", *(str(one["loads"]) for one in told)],
        ["evictions", *(str(one["evictions"]) for one in told)],
        ["copies, mean", *(f"{one['copies']['mean']:.1f}" for one in told)],
        ["different models in memory, most", *(str(one["residentModels"]["most"]) for one in told)],
        ["memory used, most", *(output.size(one["usedBytes"]["most"]) for one in told)],
        ["calls without an answer", *(", ".join(f"{count} {name}" for name, count in one["failures"].items()) or "0" for one in told)],
    ]


def _course(reports: list[Report]) -> None:
    """The course over time as lines."""
    header = ["POLICY", "UNTIL", "CALLS", "HITS", "ERRORS", "LOADS", "EVICTIONS", "COPIES", "RESIDENT", "USED"]
    rows = []
    for report in reports:
        for one in report.moments:
            counts = (one.calls, one.hits, one.errors, one.loads, one.evictions, one.copies, one.resident)
            rows.append([report.setup["policy"], f"{one.at:.6g} s", *map(str, counts), output.size(one.used)])
    output.console.print()
    output.table(rows, header)
