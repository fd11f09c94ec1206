"""A whole mesh in one process and in simulated time: its pods, model servers, registry, network and clients."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from mesh.core.errors import Cancelled, DeadlineExceeded, Leaving, MeshError
from mesh.core.ids import AliasId, ModelId
from mesh.core.instructions import Instruction, LoadModel, NoteEviction
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.records import NO_BOUNDS, AliasRecord, Bounds, ModelInfo, ModelRecord
from mesh.core.units import Millis
from mesh.settings import Settings
from mesh.simulation.calls import Called
from mesh.simulation.complaints import Errors
from mesh.simulation.loop import NEUTRAL, Process, SimulatedLoop, later
from mesh.simulation.network import Network
from mesh.simulation.pod import EPOCH, SimulatedClock, SimulatedPod
from mesh.simulation.registry import SimulatedRegistry
from mesh.simulation.runtime import REQUEST, ModelTraits, RuntimeTraits, SimulatedRuntime
from mesh.simulation.store import SimulatedStore
from mesh.wire.call import Answer, Call, Metadata, RuntimeStatus, Target, first

T = TypeVar("T")

METHOD = "inference.GRPCInferenceService/ModelInfer"
KIND = "simulated"
"""The type of all models that are given no other."""


class World:
    """One mesh. `World(seed).run(story)` runs a coroutine function `story(world)` in it.

    Args:
        seed: of everything that is drawn; the same seed gives the same world.
        settings: environment-like settings of all pods by the names of `Settings`' fields.
        delay: seconds that a message between pods takes: least and most.
        keep: events that `events` remembers.

    Attributes:
        models: what is true of models by id (`ModelTraits`); add to it before registering.
        pods: by name; a pod that ended or was killed stays until another takes its name.
        calls: running and ended calls, in order of their begin, unless `forget_calls`.
        counts: loads ordered, evictions, calls and errors, by name.
        complaints: what a correct mesh never does; a run with any is a failure.
        events: the latest things that happened, oldest first, each with its time.
        digest: of all events; equal for equal runs.
        watchers: told of each instruction that a pod carries out.
    """

    def __init__(
        self, seed: int = 0, *, settings: Mapping[str, Any] | None = None, delay: tuple[float, float] = (0.0002, 0.002), keep: int = 400
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.models: dict[str, ModelTraits] = {}
        self.pods: dict[str, SimulatedPod] = {}
        self.calls: list[Called] = []
        self.forget_calls = False
        self.running: dict[int, Called] = {}
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.events: deque[tuple[float, str]] = deque(maxlen=keep)
        self.digest = 0
        self.watchers: list[Callable[[SimulatedPod, Instruction], object]] = []
        self._settings = dict(settings or {})
        self._number = 0
        self.loop = SimulatedLoop()
        self.network = Network(self._own_random(), delay)
        self.network.breaks = self._broken
        self.store = SimulatedStore(self._own_random())

    # Running

    def run(self, story: Callable[[World], Awaitable[T]]) -> T:
        """Runs a story to its end; then the world is over.

        Raises:
            StuckError: nothing can happen any more, or time stands still.
        """
        random.seed(self.seed)
        said = Errors(self.complain)
        root = logging.getLogger("mesh")
        level, root_propagates = root.level, root.propagate
        root.addHandler(said)
        root.setLevel(logging.ERROR)
        root.propagate = False
        self.loop.set_exception_handler(self._unhandled)
        try:
            asyncio.set_event_loop(self.loop)
            outcome: T = self.loop.run_until_complete(self.loop.create_task(_as_coroutine(story(self)), context=NEUTRAL))
            return outcome
        finally:
            root.removeHandler(said)
            root.setLevel(level)
            root.propagate = root_propagates
            self._end()

    def _end(self) -> None:
        """Ends all that is under way; on the running loop, because what is ended there may ask for the time."""
        self.loop.set_exception_handler(lambda _loop, _context: None)
        for pod in self.pods.values():
            pod.process.kill()
        self.loop.run_until_complete(_end_tasks())
        asyncio.set_event_loop(None)
        self.loop.close()

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complain(f"unhandled: {context.get('message')}: {context.get('exception')!r}")

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.loop.time()

    def millis(self) -> Millis:
        """What a right clock shows."""
        return Millis(EPOCH + int(self.now * 1000))

    def note(self, text: str) -> None:
        """Remembers an event."""
        self.digest = zlib.crc32(f"{self.now:.6f} {text}".encode(), self.digest)
        self.events.append((self.now, text))

    def complain(self, text: str) -> None:
        """Notes what a correct mesh never does."""
        self.note(f"WRONG: {text}")
        self.complaints.append(f"at {self.now:.3f} s: {text}")

    # Pods

    async def add_pod(
        self,
        name: str = "",
        *,
        runtime: RuntimeTraits | None = None,
        skew: float = 0.0,
        drift: float = 0.0,
        **settings: Any,
    ) -> SimulatedPod:
        """Starts a pod and returns when it takes calls.

        Args:
            name: twelve characters at most; a name that a pod had before is its next life.
            runtime: its model server.
            skew, drift: of its clock, in ms and ms a second.
            settings: by the names of `Settings`' fields, e.g. `labels`, `zone`.

        Raises:
            MeshError: it does not start; it is dead then.
        """
        name = name or f"pod-{len(self.pods)}"
        process = Process(name)
        model_server = SimulatedRuntime(
            *(name, runtime or RuntimeTraits(), self.models, self._own_random(), self.complain),
            lambda metadata, model: self._executed(name, metadata, model),
        )
        # The store follows a pod from when that joins; made here, because a registry belongs to its process.
        registry = SimulatedRegistry(self.store, process)
        pod = SimulatedPod(name, process, SimulatedClock(skew, drift), model_server, registry, self.network)
        self.network.welcome(process)
        self.pods[name] = pod
        self.note(f"{name} starts")
        chosen = {"service_name": "simulation", "pod_name": name, "pod_address": name, **self._settings, **settings}
        starting = process.begin(pod.start(Settings.model_construct(**chosen)))
        try:
            await self._outcome(starting, pod)
        except BaseException:
            self.kill(pod)
            raise
        pod.living.conductor.watch(lambda instruction: self._ordered(pod, instruction))
        self.note(f"{name} is up")
        return pod

    async def end_pod(self, pod: SimulatedPod) -> None:
        """Has a pod end in order, handing its models over; returns when it is gone."""
        self.note(f"{pod.name} is to end")
        try:
            await self._outcome(pod.process.begin(pod.stop()), pod)
        except Leaving:
            return
        self.note(f"{pod.name} has ended")
        self.kill(pod)

    def kill(self, pod: SimulatedPod, *, silently: bool = False) -> None:
        """Ends a pod's processes at once, with the machine (`silently`: nobody's connections are reset) or alone."""
        if not pod.alive:
            return
        self.note(f"{pod.name} is killed{' silently' if silently else ''}")
        pod.process.kill()
        pod.registry.kill()
        self.network.lose(pod.process, silently=silently)
        for dead in pod.waiting:
            if not dead.done():
                later(0.001, _fail, dead, Leaving(f"the connection to pod {pod.name} is reset: it was killed"))

    def up(self) -> list[SimulatedPod]:
        """Pods that take calls."""
        return [pod for pod in self.pods.values() if pod.up]

    # Models and aliases

    def seed_models(self, models: Mapping[str, ModelTraits], kind: str = KIND, *, service: Callable[[str], str] | None = None) -> None:
        """Has models registered before there is any pod: cheap, for many.

        Args:
            models: what is true of them, by id.
            kind: their type.
            service: names the alias that points at a model; None registers models alone.
        """
        self.models.update(models)
        record = ModelRecord(ModelInfo(kind), refs=0 if service is None else 1, last_used=Millis(0))
        names = map(ModelId, models)
        aliases = {} if service is None else {AliasId(service(name)): AliasRecord(name, name) for name in names}
        self.store.seed(dict.fromkeys(map(ModelId, models), record), aliases)

    async def register(
        self, model: str, traits: ModelTraits | None = None, *, at: SimulatedPod, load: bool = False, kind: str = KIND
    ) -> None:
        """Registers a model through a pod; with `load` it is loaded at once, without waiting for it.

        Raises:
            MeshError: as `registerModel` says.
        """
        self.models.setdefault(model, traits or ModelTraits())
        await self.ask(at, at.living.management.register(model, ModelInfo(kind), load_now=load))

    async def unregister(self, model: str, *, at: SimulatedPod) -> None:
        """Removes a model. Errors as of `unregisterModel`."""
        await self.ask(at, at.living.management.unregister(model))

    async def set_alias(
        self, alias: str, model: str, *, at: SimulatedPod, bounds: Bounds = NO_BOUNDS, traits: ModelTraits | None = None, **more: Any
    ) -> None:
        """Points an alias at a model, which is registered with it. Errors as of `setVModel`; `more` as of `SetAlias`."""
        self.models.setdefault(model, traits or ModelTraits())
        if bounds is not NO_BOUNDS:
            more["bounds"] = bounds
        edit = SetAlias(AliasId(alias), ModelId(model), at.living.conductor.now(), info=ModelInfo(KIND), **more)
        await self.ask(at, at.living.management.set_alias(edit))

    async def ask(self, pod: SimulatedPod, work: Awaitable[T]) -> T:
        """Awaits something in a pod's process.

        Raises:
            Leaving: the pod was killed meanwhile.
        """
        return await self._outcome(pod.process.begin(_as_coroutine(work)), pod)

    def holders(self, model: str) -> Iterator[SimulatedPod]:
        """Pods whose runtime serves a model."""
        return (pod for pod in self.pods.values() if pod.alive and model in pod.runtime.serving)

    # Calls

    async def call(
        self, name: str, *, at: SimulatedPod, deadline: float | None = None, alias: bool = False, balanced: bool = False
    ) -> Called:
        """Makes one call as a client, waits for its end, and tells what came of it; it never raises.

        Args:
            name: of a model, or with `alias` of an alias.
            at: the pod where it comes in.
            deadline: seconds that it may take.
            balanced: the client spreads its calls itself.
        """
        number, self._number = self._number, self._number + 1
        called = Called(number, name, at.name, self.now, deadline, cold=next(self.holders(name), None) is None)
        self.running[number] = called
        if not self.forget_calls:
            self.calls.append(called)
        self.counts["calls"] += 1
        target = Target(aliases=(AliasId(name),)) if alias else Target(models=(ModelId(name),))
        end = None if deadline is None else self.now + deadline
        call = Call(METHOD, ((REQUEST, str(number)),), target, end, balanced)
        try:
            answer = await self._answered(call, at, deadline)
            called.model = answer.payload.decode()
        except (MeshError, RuntimeStatus) as error:
            called.error = error
            self.counts["errors"] += 1
        except Exception as error:
            called.error = error
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {error} in {where.name}, {where.filename}:{where.lineno}"
            self.complain(f"call {number} of {name} at {at.name} broke: {told}")
        called.ended = self.now
        del self.running[number]
        said = called.model or f"{type(called.error).__name__}: {called.error}"
        self.note(f"call {number} of {name} at {at.name}: {said} {'>'.join(called.executed)}")
        return called

    async def _answered(self, call: Call, at: SimulatedPod, deadline: float | None) -> Answer:
        if not at.alive or at._living is None:
            raise Leaving(f"nobody answers at {at.name}")
        task = at.process.begin(at.client(call, b""))
        try:
            return await asyncio.wait_for(self._outcome(task, at), deadline)
        except TimeoutError:
            if at.alive:
                task.cancel()
            raise DeadlineExceeded("the client's deadline passed") from None

    async def _outcome(self, task: asyncio.Task[T], pod: SimulatedPod) -> T:
        """What a task of a pod's process comes to, for whoever is outside of it.

        Raises:
            Leaving: the pod was killed.
        """
        future: asyncio.Future[T] = self.loop.create_future()
        pod.waiting[future] = None
        if not pod.alive:
            _fail(future, Leaving(f"pod {pod.name} is dead"))
        task.add_done_callback(lambda done: _pass_on(done, future), context=NEUTRAL)
        try:
            return await future
        finally:
            pod.waiting.pop(future, None)

    # What is seen

    def _ordered(self, pod: SimulatedPod, instruction: Instruction) -> None:
        if isinstance(instruction, LoadModel):
            self.counts["loads"] += 1
        elif isinstance(instruction, NoteEviction):
            self.counts["evictions"] += 1
        self.note(f"{pod.name}: {instruction!r}")
        for watcher in self.watchers:
            watcher(pod, instruction)

    def _executed(self, pod: str, metadata: Metadata, _model: str) -> None:
        called = self._of(metadata)
        if called is not None:
            called.executed.append(pod)

    def _broken(self, metadata: Metadata, why: str) -> None:
        called = self._of(metadata)
        if called is not None:
            called.broken.append(why)

    def _of(self, metadata: Metadata) -> Called | None:
        number = first(metadata, REQUEST)
        return None if number is None else self.running.get(int(number))

    def _own_random(self) -> random.Random:
        return random.Random(self.random.random())


def _pass_on(done: asyncio.Task[T], future: asyncio.Future[T]) -> None:
    if done.cancelled():
        _fail(future, Cancelled("the call was ended by its pod"))
    elif (error := done.exception()) is not None:
        _fail(future, error)
    elif not future.done():
        future.set_result(done.result())


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


async def _end_tasks() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task._log_destroy_pending = False  # type: ignore[attr-defined] # known to asyncio alone
        for _ in range(10):
            # What awaits something while it is ended is asked again.
            with suppress(BaseException):
                task.get_coro().close()
                break


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work
