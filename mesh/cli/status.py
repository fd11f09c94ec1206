"""`mesh status`: how the mesh on this machine is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.cli.output import Format


def _pods(pods: list[dict[str, Any]]) -> str:
    others = [f"{one['name']} is {one['state']}" for one in pods if one["state"] != "ready"]
    return ", ".join([f"{len(pods) - len(others)} of {len(pods)} ready", *others])


def status(
    format_: Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")] = Format.table,
    mesh: MeshOption = None,
) -> None:
    """Shows the mesh: state, addresses, processes, services, claims. Exit code 1 if none runs."""
    with output.plain_errors():
        found: dict[str, Any] = Control.find(mesh).get("status")
        if format_ in (Format.json, Format.yaml):
            output.data(found, format_)
            return
        output.fields(_fields(found))
        output.console.print()
        output.table(_processes(found), ["PROCESS", "STATE", "PID", "RESTARTS", "LAST EXIT", "LOG"])


def _fields(found: dict[str, Any]) -> list[tuple[str, str]]:
    services = found["services"]
    told = f"{services['ready']} of {services['total']} ready"
    if services["pending"]:
        told += f", {services['pending']} not written to the registry yet" + (f": {services['trouble']}" if services["trouble"] else "")
    return [
        ("State", found["state"]),
        ("Namespace", found["namespace"]),
        ("Since", output.moment(found["startedAt"])),
        ("gRPC", found["grpc"]),
        ("REST", found["rest"]),
        ("Metrics", "\n".join(one["metrics"] for one in found["pods"])),
        ("Pods", _pods(found["pods"])),
        ("Registry", found["store"]),
        ("Runtimes", "\n".join(_runtime(one) for one in found["runtimes"])),
        ("Services", told),
        ("Data folder", found["data"]),
        ("Claims", "\n".join(f"{name} → {path}" for name, path in found["claims"].items()) or "none"),
        ("Storage keys", found["storageConfig"]),
        *(("Warning", warning) for warning in found["warnings"]),
    ]


def _runtime(one: dict[str, Any]) -> str:
    room = f", {output.size(one['capacityBytes'])} for models each" if one["capacityBytes"] else ""
    return f"{one['name']}: {output.counted(one['pods'], 'pod')}{room}" + (f"; {one['whyNot']}" if one["whyNot"] else "")


def _processes(found: dict[str, Any]) -> list[list[str]]:
    log = f"{found['data']}/logs/mesh.log"
    own = {"name": "mesh", "state": found["state"], "pid": found["pid"], "restarts": 0, "lastExit": "", "log": log}
    return [
        [one["name"], one["state"], str(one["pid"] or "-"), str(one["restarts"]), one["lastExit"] or "-", one["log"]]
        for one in [own, *found["processes"]]
    ]
