"""One pod of a simulated mesh: the pod that serves users, in surroundings of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mesh import __version__
from mesh.core.errors import Code, Malformed, MeshError, NotHere
from mesh.core.ids import PodId
from mesh.core.units import Millis
from mesh.pod.assemble import LivingPod, start
from mesh.pod.drain import Drain
from mesh.pod.peer_lines import SERVICE
from mesh.pod.surroundings import Surroundings
from mesh.protocols import peer_pb2 as pb
from mesh.settings import Settings
from mesh.simulation.channels import SimulatedChannel
from mesh.simulation.loop import Process
from mesh.simulation.network import Network
from mesh.simulation.registry import SimulatedRegistry
from mesh.simulation.runtime import SimulatedRuntime
from mesh.telemetry.metrics import Metrics
from mesh.wire.call import Answer, Call, Metadata, RuntimeStatus, Target
from mesh.wire.hops import error_trailers, hop_of, load_trailers, pod_trailers, without_hop

EPOCH = 1_700_000_000_000
"""What a right clock shows at the begin of a world, in epoch milliseconds."""
PORT = 8080
LAST_STEPS = 8.0
"""Seconds of a stop that are kept for what follows the handing over of models (`mesh.router`, LAST_STEPS)."""
LAST_CALLS = 15.0
"""Seconds at most that running calls get when the doors close (`mesh.router`, LAST_CALLS)."""


@dataclass
class SimulatedClock:
    """A clock that may be wrong.

    Attributes:
        skew: ms that it is ahead.
        drift: ms that it gains in a second.
    """

    skew: float = 0.0
    drift: float = 0.0

    def now(self) -> Millis:
        """Milliseconds since the epoch."""
        seconds = asyncio.get_running_loop().time()
        return Millis(EPOCH + int(seconds * (1000 + self.drift) + self.skew))


@dataclass
class SimulatedPod:
    """A router and its model server, with all that the world does to them.

    Attributes:
        leaving: it was asked to end.
    """

    name: str
    process: Process
    clock: SimulatedClock
    runtime: SimulatedRuntime
    registry: SimulatedRegistry
    network: Network
    leaving: bool = False
    open: dict[asyncio.Task[Any], None] = field(default_factory=dict)
    """Calls that it answers."""
    waiting: dict[asyncio.Future[Any], None] = field(default_factory=dict)
    """Who waits for it outside of the mesh."""
    _living: LivingPod | None = None
    _open: bool = False

    @property
    def id(self) -> PodId:
        """By which the mesh knows it."""
        return PodId(self.name)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.alive

    @property
    def up(self) -> bool:
        """Whether it takes calls of clients."""
        return self.alive and self._open and not self.leaving

    @property
    def living(self) -> LivingPod:
        """All its parts; only once it has started."""
        assert self._living is not None, f"{self.name} is not up"
        return self._living

    # Life; all of this runs in the pod's process

    async def start(self, settings: Settings) -> None:
        """Starts as `mesh.router` does, less the doors.

        Raises:
            MeshError: as a router would say.
        """
        living = await start(settings, Metrics(None), self._surroundings())
        where = f"{self.name}:{PORT}"
        self._started = living.membership.identity.start_time
        self._service = settings.service_name
        self._living, self._limit = living, settings.shutdown_timeout / 1000
        self.network.listen(where, self)
        await living.membership.check_identity(living.peers.greet)
        await living.membership.join(where)
        living.management.accept(True)
        self._open = True

    async def stop(self) -> None:
        """Ends as a router that is asked to."""
        self.leaving, living = True, self.living
        drain = Drain(living.conductor, living.registry, living.loads, living.serving.travels)
        await living.membership.leave()
        await drain.run(max(self._limit / 2, self._limit - LAST_STEPS))
        living.management.accept(False)
        if self.open:
            await asyncio.wait(list(self.open), timeout=LAST_CALLS / 2)
        for task in list(self.open):
            task.cancel()
        self.network.hang_up(f"{self.name}:{PORT}")
        await living.stop()

    def _surroundings(self) -> Surroundings:
        runtime, network, process = self.runtime, self.network, self.process

        async def registry(_: Settings) -> SimulatedRegistry:
            return self.registry

        def to_runtime(_: str, __: int) -> SimulatedChannel:
            return SimulatedChannel(runtime.unary, runtime.watch)

        def to_peer(where: str, _: object, __: int) -> SimulatedChannel:
            async def call(method: str, payload: Any, metadata: Metadata, timeout: float | None) -> tuple[Any, Metadata]:
                return await network.call(process, where, method, payload, metadata, timeout)

            return SimulatedChannel(call)

        return Surroundings(self.clock, registry, to_runtime, to_peer)

    # The door for other pods, as `mesh.doors.grpc.peer` has it

    async def serve(self, method: str, payload: Any, metadata: Metadata, deadline: float | None) -> tuple[Any, Metadata]:
        """Answers a call of another pod. Errors as of `mesh.simulation.network.Server`."""
        try:
            answer = await self._counted(self._answer(method, payload, metadata, deadline))
        except RuntimeStatus as status:
            raise RuntimeStatus(status.code, status.details, status.headers, (*status.trailers, *self._farewell(None))) from None
        except MeshError as error:
            raise RuntimeStatus(error.code, error.message, (), self._farewell(error)) from None
        except TimeoutError:
            raise RuntimeStatus(Code.DEADLINE_EXCEEDED, "Deadline Exceeded", (), self._farewell(None)) from None
        return answer.payload, (*answer.trailers, *self._farewell(None))

    async def _answer(self, method: str, payload: Any, metadata: Metadata, deadline: float | None) -> Answer:
        if method == f"{SERVICE}/Hello":
            said = pb.HelloResponse(pod=self.name, start_time=self._started, service=self._service, version=__version__)
            return Answer(said.SerializeToString())
        hop = hop_of(metadata)
        if hop is None:
            raise Malformed("this port is for calls between pods")
        if hop.dest != self.id:
            raise NotHere(f"this is pod {self.name}, and the call is for pod {hop.dest}")
        if method == f"{SERVICE}/EnsureLoaded":
            wait = pb.EnsureLoadedRequest.FromString(payload).wait
            await self.living.loads.ensure_loaded(hop, wait=wait, deadline=deadline)
            return Answer(b"")
        call = Call(method, without_hop(metadata), Target(models=(hop.model,)), deadline, False, hop)
        return await self.living.serving.unary(call, payload)

    async def client(self, call: Call, payload: bytes) -> Answer:
        """Answers a call of a client. Errors as of `mesh.doors.ports.Serving`."""
        return await self._counted(self.living.serving.unary(call, payload))

    async def _counted(self, work: Any) -> Answer:
        task = asyncio.current_task()
        assert task is not None
        self.open[task] = None
        try:
            answer: Answer = await work
            return answer
        finally:
            self.open.pop(task, None)

    def _farewell(self, error: MeshError | None) -> Metadata:
        conductor = self.living.conductor
        said = (*pod_trailers(self.id), *load_trailers(conductor.pod.load(conductor.now())))
        return said if error is None else (*said, *error_trailers(error))
