"""`mesh up`: a mesh on this machine, in the foreground or detached."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh.cli import environment, output
from mesh.cli.client import Control
from mesh.core.errors import Conflict, Failed, Malformed, MeshError, Unsupported
from mesh.local import images, in_force, kits, state
from mesh.local.kits import DEFAULT, Share
from mesh.local.options import UpOptions, options_text
from mesh.local.state import DataFolder

_READY_TIMEOUT = 240.0
"""Seconds: more than a router waits for its model server (180). Every further pod adds a part: they start side by side on few cores."""
_READY_TIMEOUT_POD = 20.0


def up(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Data folder: documents, claims, logs.", show_default="~/.local/share/mesh")
    ] = None,
    pvc: Annotated[
        list[str] | None, typer.Option("--pvc", metavar="NAME=DIR", help="Serve this folder as the claim NAME; repeatable.")
    ] = None,
    storage_config: Annotated[
        Path | None,
        typer.Option(
            "--storage-config", metavar="DIR", help="Folder of storage keys, one JSON file each.", show_default="DATA/storage-config"
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return as soon as it is ready; `mesh down` ends it.")] = False,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gRPC clients.")] = 8033,
    rest_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the REST clients.")] = 8008,
    namespace: Annotated[str, typer.Option(help="The namespace that it stands for.")] = "modelmesh-serving",
    pods: Annotated[
        str,
        typer.Option(
            metavar="N|MIN..MAX",
            help="So many pods of each runtime, which share an etcd and the clients' ports; a range follows what they want.",
        ),
    ] = "1",
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            metavar="NAME[=N|=MIN..MAX],…",
            help="What to run: mlserver, triton, ovms, torchserve, or the name of a runtime; with a number of pods, or that of --pods.",
            show_default="mlserver",
            autocompletion=kits.completed,
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="REF=DIR", help="The folder that stands for a container's image; repeatable."),
    ] = None,
    store: Annotated[
        str,
        typer.Option(
            metavar="etcd://HOST:PORT[,…]",
            help="Keep the registry in this etcd. Without it, several pods share one of the mesh's own, and a single pod has it in memory.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Starts a mesh on this machine: pods of a router, an adapter and a model server each, on 127.0.0.1."""
    with output.plain_errors(usage=(Malformed, Unsupported)):
        folder = DataFolder.at(data or state.default_data())
        claims = dict(_claim(text) for text in pvc or [])
        share = kits.share(pods, f"--pods {pods}")
        runtimes = _runtimes(runtime or [])
        folders = dict(images.option(text) for text in image or [])
        _refuse_second(folder)
        options = UpOptions(
            folder.root,
            claims=claims,
            storage_config=storage_config,
            namespace=namespace,
            grpc_port=grpc_port,
            rest_port=rest_port,
            pods=share.least,
            store=_reachable(store) if store else "",
            most_pods=share.most if share.most > share.least else 0,
            runtimes=runtimes or {DEFAULT: None},
            images=folders,
        )
        for needed in in_force.ahead(options):
            environment.ensure(needed)
        if detach:
            _detached(options)
        else:
            asyncio.run(_foreground(options))


def _claim(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (equals and name and path) or "/" in name or name.startswith("."):
        raise output.usage(f"--pvc {text}: it reads --pvc NAME=DIR, e.g. --pvc my-models-pvc=./models")
    return name, Path(path).expanduser().absolute()


def _runtimes(texts: list[str]) -> dict[str, Share | None]:
    """Of all `--runtime` options together."""
    found: dict[str, Share | None] = {}
    for text in texts:
        part = kits.parse_runtimes(text)
        twice = found.keys() & part.keys()
        if twice:
            raise output.usage(f"--runtime {text}: {twice.pop()} stands there twice")
        found |= part
    return found


def _reachable(option: str) -> str:
    """As `KV_STORE` has it. Before an environment is made for nothing, and before routers say it one after the other."""
    from mesh.local import store  # gRPC takes a moment to import, which a mesh without a store need not spend

    text = store.kv_store(option)
    try:
        asyncio.run(store.check(text))
    except MeshError as error:
        raise Failed(f"--store {option}: {error.message}") from None
    return text


def _refuse_second(folder: DataFolder) -> None:
    """Before an environment is made for nothing; the supervisor refuses again, for whoever was faster."""
    other = folder.running()
    if other:
        raise Conflict(f"a mesh runs with this data folder already ({other.named()}); `mesh down` ends it")


async def _foreground(options: UpOptions) -> None:
    # FastAPI and gRPC take a moment to import, which a detached start need not spend.
    from mesh.local.control import serve
    from mesh.local.supervisor import Supervisor

    supervisor = Supervisor(options, lambda who, what: output.console.print(f"{datetime.now():%H:%M:%S} {who:<9} {what}", markup=False))

    async def tell() -> None:
        await supervisor.ready.wait()
        _show(supervisor.status())
        output.console.print("Ctrl-C ends it.", markup=False)

    telling = asyncio.create_task(tell())
    try:
        await supervisor.run(serve)
    finally:
        telling.cancel()


def _detached(options: UpOptions) -> None:
    folder = DataFolder.at(options.data)
    folder.prepare()
    log = folder.logs / "mesh.log"
    with log.open("ab") as stream:
        begin = log.stat().st_size
        process = subprocess.Popen(
            [sys.executable, "-m", "mesh.local", options_text(options)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            cwd=folder.root,
        )
    try:
        with output.errors.status("starting the mesh"):
            shown = _wait(process, folder, log, begin, _READY_TIMEOUT + _READY_TIMEOUT_POD * (_pods(options) - 1))
    except BaseException:
        _end(process)
        raise
    _show(shown)


def _pods(options: UpOptions) -> int:
    return sum((one or options.share).least for one in options.runtimes.values())


def _wait(process: subprocess.Popen[bytes], folder: DataFolder, log: Path, begin: int, patience: float) -> dict[str, Any]:
    """Until the mesh is ready. Failed with the last lines of its log if it ends, or takes too long."""
    limit = time.monotonic() + patience
    status: dict[str, Any] = {}
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise Failed(_tail(log, begin) or f"the mesh ended with exit code {process.returncode}; see {log}")
        context = folder.running()
        if context and context.pid == process.pid and folder.socket.exists():
            with suppress(MeshError):
                status = Control(context).get("status")
        if status.get("state") == "ready":
            return status
        time.sleep(0.1)
    states = ", ".join(f"{one['name']} {one['state']} {one['lastExit']}".strip() for one in status.get("processes", []))
    raise Failed(f"the mesh was not ready after {patience:g} s ({states}); its logs are in {folder.logs}")


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as stream:
        stream.seek(begin)
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return "\n".join(lines[-15:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """It ends its children itself, so it gets the time for that."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _told(runtimes: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['name']} ({output.counted(one['pods'], 'pod')})" for one in runtimes)


def _show(status: dict[str, Any]) -> None:
    pods = status["pods"]
    output.console.print("The mesh is ready." if len(pods) == 1 else f"The mesh is ready: {len(pods)} pods.", markup=False)
    for warning in status["warnings"]:
        output.errors.print(f"warning: {warning}", markup=False)
    claims = "\n".join(f"{name} → {path}" for name, path in status["claims"].items())
    pairs = [
        ("gRPC", status["grpc"]),
        ("REST", status["rest"]),
        ("runtimes", _told(status["runtimes"])),
        ("metrics", "\n".join(one["metrics"] for one in pods)),
        ("registry", status["store"]),
        ("data folder", status["data"]),
        ("logs", f"{status['data']}/logs"),
        ("claims", claims or "none yet"),
        ("pid", str(status["pid"])),
    ]
    output.fields(pairs)
