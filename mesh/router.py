"""The router's process: one pod brought up, its doors opened in order, and all of it taken down again when asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import uvloop

from mesh import __version__
from mesh.core.errors import MeshError
from mesh.doors.grpc.server import GrpcDoor
from mesh.doors.http_small import Request
from mesh.doors.metrics import metrics_door
from mesh.doors.probes import Answer, Prestop, probes
from mesh.doors.rest.app import create_app
from mesh.doors.rest.server import RestServer
from mesh.doors.tls import TlsFiles
from mesh.pod.assemble import LivingPod, start
from mesh.pod.facts import Facts
from mesh.settings import Settings, termination_log
from mesh.telemetry import logs
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.options import read_options

log = logging.getLogger(__name__)

LAST_CALLS = 15.0
"""Seconds at most that running calls get when the doors close (reference 9.5)."""


def run(settings: Settings | None = None) -> int:
    """Runs until SIGTERM or SIGINT.

    Args:
        settings: those of the environment, unless given.

    Returns:
        The exit status: 0 after an orderly stop, 1 if the start failed; the reason stands in the log, on standard error and
        in the termination log.
    """
    try:
        logs.setup()
        settings = settings or Settings.load()
        logs.setup(settings.log_level, settings.log_request_headers)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_live(settings))
    except MeshError as error:
        reason = f"Service startup failed: {error}"
        log.error(reason)
        print(reason, file=sys.stderr)
        with contextlib.suppress(OSError):
            (settings.termination_log if settings else termination_log()).write_text(reason)
        return 1
    return 0


async def _live(settings: Settings) -> None:
    """Starts, waits for a signal, stops; whatever was started is stopped also if a later step fails."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as started:
        starting = asyncio.create_task(_start(settings, started))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        await stop.wait()
        log.info("stopping")


async def _start(settings: Settings, started: contextlib.AsyncExitStack) -> None:
    """Everything in order; `started` learns how to undo each step."""
    metrics = Metrics(read_options(settings.metrics, settings.info_metrics, os.environ))
    alive: list[LivingPod] = []
    ports: dict[str, int] = {}

    async def opened(name: str, begin: Callable[[], Awaitable[int]], end: Callable[[], Awaitable[None]]) -> None:
        ports[name] = await begin()
        started.push_async_callback(end)

    if settings.probe_port is not None:
        # Open before the runtime is there, so that a pod that waits can be told from one that is dead.
        probe = probes(
            settings.bind, settings.probe_port, lambda: bool(alive) and alive[0].management.ready(), routes={"/mesh/v1": _facts(alive)}
        )
        await opened("probe", probe.start, probe.stop)
    scrape = metrics_door(metrics, settings.bind)
    if scrape is not None:
        await opened("metrics", scrape.start, scrape.stop)
    pod = await start(settings, metrics)
    started.push_async_callback(pod.stop)
    prestop = Prestop(settings.bind, settings.prestop_port, 2 * (settings.shutdown_timeout / 1000 + 1))
    await opened("prestop", prestop.start, prestop.stop)
    tls = TlsFiles.of(settings)
    rest = RestServer(
        create_app(pod.serving, pod.management, version=__version__, max_message=settings.max_message),
        host=settings.bind,
        port=settings.rest_port,
        shared=settings.shared_rest_port,
        tls=tls,
    )
    grace = min(LAST_CALLS, settings.shutdown_timeout / 2000)
    await opened("rest", rest.start, lambda: rest.stop(grace))
    door = GrpcDoor(settings, pod)
    await opened("grpc", door.start, lambda: door.stop(grace))
    alive.append(pod)
    pod.management.accept(True)
    await door.serving(True)
    logs.event("listening", **ports, pod=pod.conductor.pod.id)
    started.callback(lambda: pod.management.accept(False))


def _facts(alive: list[LivingPod]) -> Callable[[Request], Answer]:
    """State as JSON under `/mesh/v1`."""

    def answer(request: Request) -> Answer:
        if not alive:
            return 503, {"error": "the pod is still starting"}
        facts = alive[0].facts
        kind, _, name = request.path.removeprefix("/mesh/v1").strip("/").partition("/")
        found = _view(facts, kind, unquote(name), request)
        return (
            (404, {"error": f"there is no {request.path}; try /mesh/v1/pod, /models[/ID], /aliases[/NAME]"})
            if found is None
            else (200, found)
        )

    return answer


def _view(facts: Facts, kind: str, name: str, request: Request) -> dict[str, object] | None:
    def one(key: str, default: str) -> str:
        return next(iter(request.query.get(key, ())), default)

    match kind, name:
        case "pod", "":
            return facts.pod()
        case "models", "":
            limit = one("limit", "1000")
            return facts.models(one("after", ""), int(limit) if limit.isdigit() else 1000, one("part", ""))
        case "models", _:
            return facts.model(name)
        case "aliases", "":
            return facts.aliases()
        case "aliases", _:
            return facts.alias(name)
        case _:
            return None
