"""A model server as the router sees it: it loads, serves and unloads in simulated time, and it may lie, fail, hang, leak and restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from grpc_health.v1 import health_pb2

from mesh.core.errors import Code
from mesh.protocols import model_runtime_pb2 as pb
from mesh.protocols import runtime_process_pb2 as process_pb
from mesh.wire.call import Metadata, RuntimeStatus, first
from mesh.wire.headers import MODEL

REQUEST = "x-request-id"
"""The header by which the world knows its calls."""
UNLOAD = 0.05
"""Seconds that an unload takes."""
ASK = 0.002
"""Seconds that any other question takes."""
EMPTY = 64 << 20
"""Bytes that a server holds without models."""
RESTART = 3.0
"""Seconds from the end of a server that was asked to end until it is there again."""


@dataclass
class ModelTraits:
    """What is true of a model, whatever the mesh believes.

    Attributes:
        size: bytes that it takes when loaded.
        load_time: seconds.
        latency: seconds of one call.
        predicted: bytes that a runtime predicts; None is its true size.
        reported: bytes that a runtime reports when it is loaded; None is its true size, 0 leaves it to be asked for.
        concurrency: calls at a time that a runtime tells of it, if it limits them; 0 is any number.
        broken_on: names of pods whose loads of it fail; "*" is all.
    """

    size: int = 100 << 20
    load_time: float = 1.0
    latency: float = 0.01
    predicted: int | None = None
    reported: int | None = None
    concurrency: int = 0
    broken_on: set[str] = field(default_factory=set)

    @property
    def honest(self) -> bool:
        """Whether it is as large as is told."""
        return (self.predicted or self.size) == self.size and (self.reported or self.size) == self.size


@dataclass(frozen=True)
class RuntimeTraits:
    """Figures and habits of a runtime.

    Attributes:
        capacity: bytes for models.
        default_size: bytes that it says models usually take.
        slots: loads at a time.
        load_timeout: seconds.
        watched: whether it offers a health service.
        predicts: whether it predicts sizes.
        limits: whether it limits the calls on a copy.
        slowness: a factor on all that takes time.
        leak: bytes that stay held with each load, until it begins anew; None: it does not tell what it holds.
    """

    capacity: int = 1 << 30
    default_size: int = 100 << 20
    slots: int = 2
    load_timeout: float = 30.0
    watched: bool = True
    predicts: bool = True
    limits: bool = False
    slowness: float = 1.0
    leak: int | None = None


class SimulatedRuntime:
    """One pod's model server.

    Args:
        name: of the pod.
        traits: its figures.
        models: what is true of models, by id; a stranger is of the default size.
        random: draws how long things take.
        complain: told of what a correct router never does.
        answered: told of each call that got an answer: its metadata and the model.

    Attributes:
        held: bytes that each model takes, from the begin of its load to the end of its unload.
        lost: models that a restart took, until they are loaded again; calls of them are no fault of the router.
        foretold: models whose size was told before their load.
        leaks: unloads fail.
        loads, unloads: that succeeded, ever.
        lives: processes that there were, this one included.
        leaked: bytes that this process holds for nothing.
        kept: why its adapter cannot end it; empty if it can.
    """

    def __init__(
        self,
        name: str,
        traits: RuntimeTraits,
        models: dict[str, ModelTraits],
        random: Random,
        complain: Callable[[str], object],
        answered: Callable[[Metadata, str], object],
    ) -> None:
        self.name, self.traits, self._models, self._random = name, traits, models, random
        self._complain, self._answered = complain, answered
        self.held: dict[str, int] = {}
        self.serving: set[str] = set()
        self.lost: set[str] = set()
        self.foretold: set[str] = set()
        self.running: Counter[str] = Counter()
        self.loading = 0
        self.leaks = False
        self.loads = self.unloads = 0
        self.lives, self.leaked, self.kept = 1, 0, ""
        self._up, self._hangs, self._breaks = True, False, 0
        self._changed: dict[asyncio.Future[None], None] = {}
        self._methods = {
            "mmesh.ModelRuntime/runtimeStatus": self._status,
            "mmesh.ModelRuntime/loadModel": self._load,
            "mmesh.ModelRuntime/unloadModel": self._unload,
            "mmesh.ModelRuntime/predictModelSize": self._predict,
            "mmesh.ModelRuntime/modelSize": self._size,
            "grpc.health.v1.Health/Check": self._check,
            "mesh.runtime.v1.RuntimeProcess/Memory": self._memory,
            "mesh.runtime.v1.RuntimeProcess/Recycle": self._recycle,
        }

    @property
    def up(self) -> bool:
        """Whether its process runs."""
        return self._up

    # Faults

    def go_down(self) -> None:
        """Ends, with all that is loaded, until `come_back`."""
        self._up = False
        self.lost |= self.held.keys()
        self.held.clear()
        self.serving.clear()
        self._wake()

    def come_back(self) -> None:
        """Is there again, with nothing loaded."""
        self._up = True
        self.lives, self.leaked = self.lives + 1, 0
        self._wake()

    def hang(self, hangs: bool) -> None:
        """Answers nothing, or answers again."""
        self._hangs = hangs
        self._wake()

    def break_watches(self) -> None:
        """Ends all watches of its health, as a lost connection does; new ones may begin at once."""
        self._breaks += 1
        self._wake()

    def forget(self, model: str) -> None:
        """Loses one model without a word."""
        if self.held.pop(model, None) is not None:
            self.serving.discard(model)
            self.lost.add(model)

    # Answers

    async def unary(self, method: str, request: Any, metadata: Metadata, timeout: float | None) -> tuple[Any, Metadata]:
        """Answers a call. Errors as of `mesh.simulation.channels.Unary`."""
        known = self._methods.get(method)
        end = float("inf") if timeout is None else asyncio.get_running_loop().time() + timeout
        if known is not None:
            return await known(request, end), ()
        return await self._infer(metadata, end), ()

    async def watch(self, _method: str) -> AsyncIterator[Any]:
        """Answers a watch of its health: its state, and each other one."""
        told: bool | None = None
        breaks = self._breaks
        while True:
            if self._breaks != breaks:
                raise RuntimeStatus(Code.UNAVAILABLE, "connection reset")
            if self._up is not told and not self._hangs:
                told = self._up
                yield health_pb2.HealthCheckResponse(status=1 if told else 2)
                continue
            await self._change(float("inf"))

    async def _check(self, _: Any, end: float) -> Any:
        if not self.traits.watched:
            raise RuntimeStatus(Code.UNIMPLEMENTED, "no such service")
        await self._busy(ASK, end)
        return health_pb2.HealthCheckResponse(status=1)

    async def _status(self, _: Any, end: float) -> Any:
        await self._busy(ASK, end)
        self.held.clear()
        self.serving.clear()
        traits = self.traits
        return pb.RuntimeStatusResponse(
            status=pb.RuntimeStatusResponse.READY,
            capacityInBytes=traits.capacity,
            defaultModelSizeInBytes=traits.default_size,
            maxLoadingConcurrency=traits.slots,
            modelLoadingTimeoutMs=round(traits.load_timeout * 1000),
            limitModelConcurrency=traits.limits,
        )

    async def _memory(self, _: Any, end: float) -> Any:
        if self.traits.leak is None:
            raise RuntimeStatus(Code.UNIMPLEMENTED, "what is held is not told here")
        await self._busy(ASK, end)
        held = EMPTY + self.leaked + sum(self.held.values())
        return process_pb.MemoryResponse(held_bytes=held, process=f"{self.name} {self.lives}")

    async def _recycle(self, _: Any, end: float) -> Any:
        await self._busy(ASK, end)
        if self.kept:
            raise RuntimeStatus(Code.FAILED_PRECONDITION, self.kept)
        if self.running:
            self._complain(f"{self.name} is ended under {self.running.total()} calls")
        if self.loading:
            self._complain(f"{self.name} is ended under {self.loading} loads")
        self.go_down()
        asyncio.get_running_loop().call_later(RESTART * self.traits.slowness, self.come_back)
        return process_pb.RecycleResponse()

    async def _predict(self, request: Any, end: float) -> Any:
        self.foretold.discard(request.modelId)
        await self._busy(ASK, end)
        if not self.traits.predicts:
            raise RuntimeStatus(Code.UNIMPLEMENTED, "sizes are not predicted here")
        model = self._model(request.modelId)
        self.foretold.add(request.modelId)
        return pb.PredictModelSizeResponse(sizeInBytes=model.predicted or model.size)

    async def _size(self, request: Any, end: float) -> Any:
        await self._busy(ASK, end)
        if request.modelId not in self.serving:
            raise RuntimeStatus(Code.NOT_FOUND, "no such model")
        return pb.ModelSizeResponse(sizeInBytes=self._model(request.modelId).size)

    async def _load(self, request: Any, end: float) -> Any:
        name = request.modelId
        model = self._model(name)
        await self._busy(ASK, end)
        if name in self.held:
            self._complain(f"{self.name} is told to load {name}, which it holds")
        if self.loading >= self.traits.slots:
            self._complain(f"{self.name} is told to load {name} while {self.loading} loads run, and takes {self.traits.slots}")
        self.held[name] = model.size
        self.loading += 1
        self._see_room(name)
        try:
            await self._busy(model.load_time * self._random.uniform(0.7, 1.3), end)
        finally:
            # What a load that was ended took stays taken until the unload that follows.
            self.loading -= 1
        if name not in self.held:
            raise RuntimeStatus(Code.UNAVAILABLE, "restarted meanwhile")
        if self.name in model.broken_on or "*" in model.broken_on:
            raise RuntimeStatus(Code.INTERNAL, f"{name} is broken")
        self.serving.add(name)
        self.lost.discard(name)
        self.loads += 1
        self.leaked += self.traits.leak or 0
        size = model.size if model.reported is None else model.reported
        return pb.LoadModelResponse(sizeInBytes=size, maxConcurrency=model.concurrency)

    def _see_room(self, name: str) -> None:
        """With models that are what they are said to be, and were said to be before their loads, there is always room."""
        if sum(self.held.values()) > self.traits.capacity and all(held in self.foretold and self._model(held).honest for held in self.held):
            self._complain(f"{self.name} is told to load {name} beyond its capacity: {sum(self.held.values())} of {self.traits.capacity}")

    async def _unload(self, request: Any, end: float) -> Any:
        name = request.modelId
        if self.running[name] and name in self.serving:
            self._complain(f"{self.name} is told to unload {name} under {self.running[name]} calls")
        self.serving.discard(name)
        await self._busy(UNLOAD, end)
        if self.leaks and name in self.held:
            raise RuntimeStatus(Code.INTERNAL, f"{name} is not unloaded: out of luck")
        self.foretold.discard(name)
        if self.held.pop(name, None) is None:
            raise RuntimeStatus(Code.NOT_FOUND, "no such model")
        self.unloads += 1
        return pb.UnloadModelResponse()

    async def _infer(self, metadata: Metadata, end: float) -> bytes:
        named = first(metadata, f"{MODEL}-bin")
        name = named.decode() if isinstance(named, bytes) else str(named)
        if self._up and not self._hangs and name not in self.serving and name not in self.lost:
            self._complain(f"{self.name} gets a call of {name}, which it was told to unload or never had")
        self.running[name] += 1
        try:
            await self._busy(self._model(name).latency * self._random.uniform(0.5, 1.5), end)
        finally:
            self.running[name] -= 1
            if not self.running[name]:
                del self.running[name]
        if name not in self.serving:
            raise RuntimeStatus(Code.NOT_FOUND, f"model {name} is not loaded")
        self._answered(metadata, name)
        return name.encode()

    # Time

    def _model(self, name: str) -> ModelTraits:
        return self._models.get(name) or ModelTraits(self.traits.default_size)

    async def _busy(self, seconds: float, end: float) -> None:
        """Takes time; longer while the runtime hangs.

        Raises:
            RuntimeStatus: the caller's time is over, or the runtime went down.
        """
        loop = asyncio.get_running_loop()
        done = loop.time() + seconds * self.traits.slowness
        while True:
            if not self._up:
                raise RuntimeStatus(Code.UNAVAILABLE, "connection refused")
            if not self._hangs and loop.time() >= done:
                return
            if loop.time() >= end:
                raise RuntimeStatus(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
            await self._change(end if self._hangs else min(done, end))

    async def _change(self, until: float) -> None:
        """Waits for a change, or until a moment."""
        loop = asyncio.get_running_loop()
        changed = loop.create_future()
        self._changed[changed] = None
        timer = loop.call_at(until, _wake, changed) if until < float("inf") else None
        try:
            await changed
        finally:
            self._changed.pop(changed, None)
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        for changed in list(self._changed):
            _wake(changed)


def _wake(changed: asyncio.Future[None]) -> None:
    with suppress(asyncio.InvalidStateError):
        changed.set_result(None)
