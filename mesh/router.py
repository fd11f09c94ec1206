"""The router's process: one pod brought up, its doors opened in order, and all of it taken down again when asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from mesh import __version__
from mesh.core.errors import DeadlineExceeded, MeshError
from mesh.doors import facts
from mesh.doors.grpc.peer import PeerDoor
from mesh.doors.grpc.server import GrpcDoor
from mesh.doors.lane import LaneDoor, why_off
from mesh.doors.metrics import metrics_door
from mesh.doors.probes import Prestop, probes
from mesh.doors.rest.app import create_app
from mesh.doors.rest.server import RestServer
from mesh.doors.tls import TlsFiles
from mesh.pod import static
from mesh.pod.assemble import LivingPod, start
from mesh.pod.drain import Drain
from mesh.pod.garbage import spare_what_stays
from mesh.pod.readiness import Probation, Readiness
from mesh.settings import Settings, termination_log
from mesh.telemetry import logs, traces
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.options import read_options

log = logging.getLogger(__name__)

LAST_CALLS = 15.0
"""Seconds at most that running calls get when the doors close (reference 9.5)."""
FAREWELL = 2.0
"""Seconds in which clients and probes that watch a pod's health notice that it goes, before its doors close (reference 9.5)."""
LAST_STEPS = 8.0
"""Seconds of a stop that are kept for what follows the handing over of models."""


def run(settings: Settings | None = None) -> int:
    """Runs until SIGTERM or SIGINT.

    Args:
        settings: those of the environment, unless given.

    Returns:
        The exit status: 0 after an orderly stop, 1 if the start failed; the reason stands in the log, on standard error and
        in the termination log. A stop that takes longer than `SHUTDOWN_TIMEOUT_MS` ends the process with 1 then and there.
    """
    watchdog = Watchdog()
    try:
        logs.setup()
        settings = settings or Settings.load()
        logs.setup(settings.log_level, settings.log_request_headers)
    except MeshError as error:
        return _failed(error.message, settings.termination_log if settings else termination_log())
    spare_what_stays()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_live(settings, watchdog))
    finally:
        watchdog.rest()


def _failed(cause: str, where: Path) -> int:
    """Says why the start failed, wherever somebody may look for it; the exit status."""
    reason = f"Service startup failed: {cause}"
    log.error(reason)
    print(reason, file=sys.stderr)
    with contextlib.suppress(OSError):
        where.write_text(reason)
    return 1


class Watchdog:
    """Ends the process if a stop takes too long. A thread, because what hangs may be the event loop."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def watch(self, limit: float) -> None:
        """From now on so many seconds are left; a second time changes nothing."""
        if self._timer is None:
            self._timer = threading.Timer(limit, self._end, (limit,))
            self._timer.daemon = True
            self._timer.start()

    def rest(self) -> None:
        """The stop is over."""
        if self._timer is not None:
            self._timer.cancel()

    @staticmethod
    def _end(limit: float) -> None:
        log.error("the stop is not over after %g s (SHUTDOWN_TIMEOUT_MS); the process ends as it is", limit)
        os._exit(1)


async def _live(settings: Settings, watchdog: Watchdog) -> int:
    """Starts, waits for a signal, stops; whatever was started is stopped also if a later step fails. The exit status."""
    stop = asyncio.Event()

    def asked() -> None:
        watchdog.watch(settings.shutdown_timeout / 1000)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked)
    async with contextlib.AsyncExitStack() as started:
        starting = asyncio.create_task(Router(settings, started).start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        except Exception as error:
            watchdog.watch(settings.shutdown_timeout / 1000)
            if isinstance(error, MeshError):
                return _failed(error.message, settings.termination_log)
            log.exception("the start broke; this is a bug")
            return _failed(f"{type(error).__name__}: {error}; this is a bug, the log has its trace", settings.termination_log)
        await stop.wait()
        log.info("stopping")
    return 0


class Router:
    """One router's start, step by step.

    Args:
        started: learns how to undo each step; closing it stops the router.
    """

    def __init__(self, settings: Settings, started: contextlib.AsyncExitStack) -> None:
        self._settings, self._started = settings, started
        self._close_by: float | None = None
        self._over: float | None = None
        self._ports: dict[str, int] = {}
        self._pod: LivingPod | None = None
        self._readiness: Readiness | None = None
        self._doing = ""
        self._lane: LaneDoor | None = None

    async def start(self) -> None:
        """Returns when calls are taken.

        Raises:
            MeshError: says what failed and what to do.
        """
        limit = self._settings.start_timeout
        try:
            async with asyncio.timeout(limit) as over:
                await self._start()
        except TimeoutError:
            if not over.expired():
                raise
            raise DeadlineExceeded(f"the start is not over after {limit} s (MESH_START_TIMEOUT); it was {self._doing}") from None

    async def _start(self) -> None:
        settings = self._settings
        models = static.read(settings)
        metrics = Metrics(read_options(settings.metrics, settings.info_metrics, os.environ), settings.max_series)
        await metrics.begin()
        self._started.push_async_callback(metrics.end)
        traces.begin(settings.service_name, settings.instance_id, os.environ)
        self._started.push_async_callback(traces.end)
        await self._open_what_others_watch(metrics)

        self._step("waiting for the registry and the model server")
        pod = await start(settings, metrics)
        self._started.push_async_callback(pod.stop)
        # The registry is in, and nobody is served yet.
        spare_what_stays()
        probation = Probation(pod.conductor, pod.registry, settings) if settings.fail_fast else None
        self._pod, self._readiness = pod, Readiness(pod.conductor.pod.id, pod.registry, probation)

        self._step("joining the other pods")
        await self._join(pod)

        if not pod.registry.read_only:
            self._step("registering the models that the settings name")
            if pod.registry.trouble is None:
                await static.register(models, pod.management, pod.conductor.now())
            else:
                later = static.register_later(models, pod.management, pod.registry, pod.conductor.now())
                pod.tasks.begin(later, "registering the models that the settings name")

        self._step("opening the doors")
        await self._open_to_clients(pod, self._readiness)
        logs.event("listening", **self._ports, pod=pod.conductor.pod.id)

    async def _open_what_others_watch(self, metrics: Metrics) -> None:
        """Open before the runtime is there, so that a pod that waits can be told from one that is dead."""
        settings = self._settings
        self._step("opening the doors")
        if settings.probe_port is not None:
            view = facts.facts_route(lambda: self._pod.facts if self._pod else None)
            probe = probes(settings.bind, settings.probe_port, self._why_not_ready, {facts.PREFIX: view})
            await self._open("probe", probe.start, probe.stop)
        scrape = metrics_door(metrics, settings.bind, log_scrapes=settings.log_scrapes)
        if scrape is not None:
            await self._open("metrics", scrape.start, scrape.stop)
        # Among the first, so that it is among the last to close: hooks hold the runtime until nothing needs it any more.
        prestop = Prestop(settings.bind, settings.prestop_port, 2 * (settings.shutdown_timeout / 1000 + 1))
        await self._open("prestop", prestop.start, prestop.stop)

    async def _join(self, pod: LivingPod) -> None:
        """The door for other pods first: from the moment that the pod's record is written, they may call."""
        settings, membership, me = self._settings, pod.membership, pod.conductor.pod.id
        lane = self._lane = self._express(pod)
        behind = lane.peer_socket if lane is not None else ""
        door = PeerDoor(
            *(settings, pod.serving, pod.loads),
            me=me,
            started=membership.identity.start_time,
            load=lambda: pod.conductor.pod.load(pod.conductor.now()),
            behind=behind,
        )
        await self._open("peer", door.start, lambda: door.stop(self._grace()))
        if lane is not None:
            self._ports["peer"] = await lane.start_peers()
        await membership.check_identity(pod.peers.greet)
        await membership.join(f"{_host(settings.pod_address)}:{self._ports['peer']}")

    async def _open_to_clients(self, pod: LivingPod, readiness: Readiness) -> None:
        settings, tls = self._settings, TlsFiles.of(self._settings)
        lane = self._lane
        app = create_app(
            pod.serving, pod.management, version=__version__, max_message=settings.max_message, lane_key=lane.key if lane else ""
        )
        rest = RestServer(
            app,
            host=settings.bind,
            port=settings.rest_port,
            shared=None if lane else settings.shared_rest_port,
            tls=tls,
            behind=lane.rest_socket if lane else None,
        )
        await self._open("rest", rest.start, lambda: rest.stop(self._grace()))
        door = await self._open_grpc(pod, lane)
        pod.management.accept(True)
        await door.serving(True)
        readiness.open()
        self._started.push_async_callback(self._leave, pod, readiness, (rest, door), lane)

    def _express(self, pod: LivingPod) -> LaneDoor | None:
        """The express lane, if it is wanted and can take the ports."""
        if self._settings.lane != "auto":
            return None
        if reason := why_off(self._settings, pod):
            log.info("the express lane is off, so every call goes through Python: %s", reason)
            return None
        lane = LaneDoor(self._settings, pod)
        self._started.callback(lane.remove)
        return lane

    async def _open_grpc(self, pod: LivingPod, lane: LaneDoor | None) -> GrpcDoor:
        """The gRPC door, and in front of it and of the REST door the express lane, if there is one."""
        door = GrpcDoor(self._settings, pod, lane.socket if lane else "")
        await self._open("grpc", door.start, lambda: door.stop(self._grace()))
        if lane is not None:
            await self._open("grpc", lane.start, lambda: lane.stop(self._grace()))
            self._ports["rest"] = lane.rest_port
            log.info("the express lane is on")
        return door

    async def _leave(self, pod: LivingPod, readiness: Readiness, doors: tuple[RestServer, GrpcDoor], lane: LaneDoor | None) -> None:
        """The first steps of a stop: others learn that nothing new is to come here, and take over the models; then clients learn it."""
        limit = self._settings.shutdown_timeout / 1000
        self._over = asyncio.get_running_loop().time() + limit
        drain = Drain(pod.conductor, pod.registry, pod.loads, pod.serving.travels)
        if lane is not None and lane.publisher is not None:
            # Handing models over needs to see which copies answer, so the last calls are Python's.
            await lane.publisher.give_over("the pod leaves")
            pod.catch_up()
        await pod.membership.leave()
        await drain.run(max(limit / 2, limit - LAST_STEPS))
        readiness.close()
        pod.management.accept(False)
        rest, door = doors
        rest.farewell()
        await door.serving(False)
        if not drain.alone:
            await asyncio.sleep(FAREWELL)

    async def _open(self, name: str, begin: Callable[[], Awaitable[int]], end: Callable[[], Awaitable[None]]) -> None:
        self._ports[name] = await begin()
        self._started.push_async_callback(end)

    def _grace(self) -> float:
        """Seconds that are left for running calls, for all doors together; the process has to end in time."""
        now = asyncio.get_running_loop().time()
        if self._close_by is None:
            left = self._over - now if self._over else self._settings.shutdown_timeout / 1000
            self._close_by = now + min(LAST_CALLS, left / 2)
        return max(0.0, self._close_by - now)

    def _step(self, doing: str) -> None:
        self._doing = doing
        log.info(doing)

    def _why_not_ready(self) -> str:
        return self._readiness.why_not() if self._readiness else "it is starting"


def _host(address: str) -> str:
    """An address as it stands before a port."""
    return f"[{address}]" if ":" in address else address
