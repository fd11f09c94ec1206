"""`mesh rollout`: versions of a service, and which of them gets the calls."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mesh.cli import output, policies
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format
from mesh.core.errors import Failed, MeshError

app = typer.Typer(help="Versions of a service: which there are, and which of them gets the calls.", no_args_is_help=True)

_POLL = 0.1
"""Seconds between two looks of whoever waits."""


def names(incomplete: str) -> list[str]:
    """Services of the mesh that begin so, for the shell; none if no mesh answers."""
    named = os.environ.get("MESH_DIR")
    try:
        found = Control.find(Path(named) if named else None).get("services")
    except (MeshError, OSError):
        return []
    return [one["name"] for one in found if one["name"].startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="The service.", autocompletion=names)]
Output = Annotated[Format, typer.Option("--output", "-o", help="table, json, yaml or name.")]
Wait = Annotated[
    float | None,
    typer.Option("--wait", metavar="SECONDS", min=0, help="Wait until calls go as they are to; fails if the version cannot load."),
]


@app.command()
def status(name: Name, format_: Output = Format.table, mesh: MeshOption = None) -> None:
    """Shows the versions: shares of the calls, how their models are, copies; and the rules of its traffic policy."""
    with output.plain_errors():
        found = Control.find(mesh).get(f"rollouts/{name}")
        if _as_data(found, {part: value for part, value in found.items() if part != "history"}, format_):
            return
        header = ["VERSION", "CALLS", "ROLE", "STATE", "COPIES", "SINCE", "MODEL"]
        output.table([_version(one) for one in found["versions"]], header)
        for line in _remarks(found):
            output.console.print(line, markup=False)


@app.command()
def history(name: Name, format_: Output = Format.table, mesh: MeshOption = None) -> None:
    """Shows the versions with what their documents say; those with no number can be gone back to by applying their document only."""
    with output.plain_errors():
        found = Control.find(mesh).get(f"rollouts/{name}")
        if _as_data(found, found["history"], format_):
            return
        output.table([_former(one) for one in found["history"]], ["VERSION", "USE", "FORMAT", "STORAGE", "PATH", "APPLIED", "MODEL"])


@app.command()
def canary(
    name: Name,
    percent: Annotated[int, typer.Argument(min=0, max=100, help="Of a hundred calls, so many go to the canary.")],
    version: Annotated[int | None, typer.Option("--version", min=1, metavar="N", help="A kept version; else that of the document.")] = None,
    wait: Wait = None,
    format_: Output = Format.table,
    mesh: MeshOption = None,
) -> None:
    """Gives a version a share of the calls beside the stable one; 100 gives it all."""
    _act(name, {"action": "canary", "percent": percent, "version": version}, wait, format_, mesh)


@app.command()
def promote(name: Name, wait: Wait = None, format_: Output = Format.table, mesh: MeshOption = None) -> None:
    """Gives the canary all calls, as soon as it can serve them."""
    _act(name, {"action": "promote"}, wait, format_, mesh)


@app.command()
def abort(name: Name, wait: Wait = None, format_: Output = Format.table, mesh: MeshOption = None) -> None:
    """Takes the canary's share away: all calls go to the stable version."""
    _act(name, {"action": "abort"}, wait, format_, mesh)


@app.command()
def undo(
    name: Name,
    to: Annotated[int | None, typer.Option("--to", min=1, metavar="N", help="A kept version; else the one before the stable one.")] = None,
    wait: Wait = None,
    format_: Output = Format.table,
    mesh: MeshOption = None,
) -> None:
    """Goes back to a former version, which gets all calls as soon as it can serve them."""
    _act(name, {"action": "undo", "to": to}, wait, format_, mesh)


def _act(name: str, order: dict[str, Any], wait: float | None, format_: Format, mesh: Path | None) -> None:
    with output.plain_errors():
        control = Control.find(mesh)
        done = control.post(f"rollouts/{name}", order)
        if format_ in (Format.json, Format.yaml):
            output.data({part: done[part] for part in ("name", "kind", "change", "model", "version", "percent")}, format_)
        elif format_ is Format.name:
            output.console.print(f"{done['kind'].lower()}/{name}", markup=False)
        else:
            output.console.print(_told(name, done), markup=False)
        if wait is not None:
            _wait(control, name, wait)


def _told(name: str, done: dict[str, Any]) -> str:
    version = f"version {done['version']}" if done["version"] else done["model"]
    share = "all calls" if done["percent"] is None else f"{done['percent']} % of the calls"
    again = ", as before" if done["change"] == "unchanged" else ""
    return f"{done['kind'].lower()}/{name}: {version} is to have {share}{again}"


def _wait(control: Control, name: str, limit: float) -> None:
    """Until the router is where the document wants it. Failed at once when the version cannot load, or after `limit` seconds."""
    deadline = time.monotonic() + limit
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=output.errors, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"{name}: waiting", total=None)
        while True:
            found = control.get(f"rollouts/{name}")
            if found["reached"]:
                return
            if found["trouble"]:
                raise Failed(f"{name}: {found['trouble']}")
            progress.update(task, description=f"{name}: {_under_way(found)}")
            if time.monotonic() >= deadline:
                raise Failed(f"{name} is not there after {limit:g} s: {_under_way(found)}")
            time.sleep(_POLL)


def _under_way(found: dict[str, Any]) -> str:
    wanted = next((one for one in found["versions"] if one["model"] == found["model"]), None)
    return f"version {wanted['number']}: {output.standing(wanted)}" if wanted else "not written to the registry yet"


def _as_data(found: dict[str, Any], value: Any, format_: Format) -> bool:
    if format_ is Format.name:
        output.console.print(f"{found['kind'].lower()}/{found['name']}", markup=False)
        return True
    if format_ in (Format.json, Format.yaml):
        output.data(value, format_)
        return True
    return False


def _version(one: dict[str, Any]) -> list[str]:
    state = one["status_word"] if one["status"]["why"] else output.standing(one)
    since = output.moment(one["at"])
    return [str(one["number"]), f"{one['percent']} %", one["role"] or "-", state, str(one["copies"]), since, one["model"]]


def _remarks(found: dict[str, Any]) -> list[str]:
    """Why versions cannot load, what is under way, and the policy's rules, a line each."""
    lines = [f"Version {one['number']} is {output.standing(one)}" for one in found["versions"] if one["status"]["why"]]
    if found["trouble"] and not lines:
        lines.append(found["trouble"])
    elif not found["reached"] and not found["trouble"]:
        lines.append(f"Under way: {_under_way(found)}")
    beside = ["The canary's share goes before the policy's default."] if found["canaryPercent"] and "default" in found["policy"] else []
    return lines + policies.lines(found["policy"]) + beside


def _former(one: dict[str, Any]) -> list[str]:
    storage = [one["storageKey"], *(f"{name}={value}" for name, value in one["storageParameters"].items())]
    format_ = one["format"] + (f" ({one['runtime']})" if one["runtime"] else "")
    version = "-" if one["version"] is None else str(one["version"])
    return [
        version,
        one["role"] or "-",
        format_,
        ", ".join(filter(None, storage)) or "default",
        one["path"],
        output.moment(one["at"]),
        one["model"],
    ]
