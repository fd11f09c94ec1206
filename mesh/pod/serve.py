"""Carries out calls: finds the model, has it loaded if need be, calls the runtime, heals what it forgot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

from mesh.core.copies import Copy
from mesh.core.errors import Code, DeadlineExceeded, MeshError, Unknown, Unsupported
from mesh.core.events import LoadWanted, RuntimeForgot
from mesh.core.ids import ModelId
from mesh.core.journey import Journey, Refuse, Serve
from mesh.pod.admission import Admission
from mesh.pod.conductor import Conductor
from mesh.pod.streams import Requests, ServedStream
from mesh.pod.targets import Named, Targets, split
from mesh.pod.turns import Turns
from mesh.runtime.handshake import Runtime
from mesh.store.registry import Registry
from mesh.telemetry.metrics import Metrics
from mesh.wire import fields
from mesh.wire.answers import error_of, not_here
from mesh.wire.call import Answer, Call, Metadata, RuntimeStatus, Target
from mesh.wire.exchange import Exchange
from mesh.wire.headers import to_runtime

log = logging.getLogger(__name__)

T = TypeVar("T")

RUNTIME_SERVICE = "mmesh.ModelRuntime/"
NONE_FOUND = "none of the requested models were found"
"""Pinned text (reference 3.11)."""


class Measured:
    """Tells the metrics of one call at the pod where it came in, when it ends."""

    def __init__(self, metrics: Metrics, method: str, size: int) -> None:
        self._metrics, self._method, self._size = metrics, method, size
        self.named = Named(ModelId(""))
        self.answered: int | None = None

    def __enter__(self) -> Measured:
        self._begun = asyncio.get_running_loop().time()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = error.code if isinstance(error, MeshError | RuntimeStatus) else Code.OK if error is None else Code.CANCELLED
        about = (self.named.model, self.named.alias)
        self._metrics.api_request(self._method, code, (asyncio.get_running_loop().time() - self._begun) * 1000, *about)
        self._metrics.request_size(self._method, code, self._size, *about)
        if self.answered is not None:
            self._metrics.response_size(self._method, code, self.answered, *about)


class CallServer:
    """Serves calls on this pod's runtime."""

    def __init__(
        self,
        conductor: Conductor,
        registry: Registry,
        targets: Targets,
        runtime: Runtime,
        exchange: Exchange,
        admission: Admission,
        turns: Turns,
        metrics: Metrics,
        *,
        parallel: int,
        log_each: bool,
    ) -> None:
        self._conductor, self._registry, self._targets = conductor, registry, targets
        self._runtime, self._exchange, self._metrics = runtime, exchange, metrics
        self._admission, self._turns = admission, turns
        self._parallel, self._log_each = parallel, log_each

    async def unary(self, call: Call, payload: bytes) -> Answer:
        """One message in, one out. Errors as `mesh.doors.ports.Serving` says."""
        with self._admission.call(), self._measured(call.method, len(payload)) as measured:
            path = self._injection(call.method)
            target = self._targets.target(call, self._targets.rule(call.method), payload)
            if len(target.models) + len(target.aliases) > 1:
                answer = await self._several(call, payload, split(target), every=target.all_required)
            else:
                (measured.named,) = self._targets.resolve(target)
                answer = await self._one(call, payload, measured.named, path)
            measured.answered = len(answer.payload)
            return answer

    async def stream(self, call: Call, requests: AsyncIterator[bytes]) -> ServedStream:
        """Any number of messages both ways; returns when the first answer is there. Errors as `mesh.doors.ports.Serving` says."""
        served = ServedStream(self._admission.call())
        try:
            path = self._injection(call.method)
            rule = self._targets.rule(call.method)
            queue = Requests(requests, self._targets, call, rule)
            target = self._targets.target(call, rule, await queue.first())
            if len(target.models) + len(target.aliases) > 1:
                raise Unsupported("a stream can name one model only; open a stream for each")
            (named,) = self._targets.resolve(target)
            queue.bind(named, path)

            async def begin(copy: Copy) -> None:
                timeout = self._remaining(call)
                metadata = to_runtime(call.metadata, copy.id.model)
                await served.begin(self._exchange.stream(call.method, queue.replay(copy.id.model), metadata, timeout))

            await self._travel(call, named, 0, begin, keep=served.keep, may_repeat=lambda: queue.replayable)
        except BaseException:
            served.close()
            raise
        return served

    # One model

    async def _one(self, call: Call, payload: bytes, named: Named, path: tuple[int, ...]) -> Answer:
        async def use(copy: Copy) -> Answer:
            model = copy.id.model
            message = fields.replace(payload, path, model.encode()) if path else payload
            return await self._invoke(call, message, copy, named)

        return await self._travel(call, named, len(payload), use)

    async def _invoke(self, call: Call, message: bytes, copy: Copy, named: Named) -> Answer:
        model, loop = copy.id.model, asyncio.get_running_loop()
        if self._log_each:
            log.info("invoking model runtime gRPC method: %s", call.method, extra={"model": model})
        turn: AbstractAsyncContextManager[None] = self._turns.turn(copy) if self._runtime.limits_concurrency else nullcontext()
        async with turn:
            begun, code = loop.time(), Code.OK
            try:
                return await self._exchange.unary(call.method, message, to_runtime(call.metadata, model), self._remaining(call))
            except RuntimeStatus as status:
                code = status.code
                raise
            finally:
                self._metrics.invoke(call.method, code, (loop.time() - begun) * 1000, model, named.alias)

    async def _travel(
        self,
        call: Call,
        named: Named,
        size: int,
        use: Callable[[Copy], Awaitable[T]],
        *,
        keep: Callable[[Callable[[], None]], None] | None = None,
        may_repeat: Callable[[], bool] = lambda: True,
    ) -> T:
        """Brings a call to a copy and uses it.

        Args:
            call: what is asked.
            named: its model.
            size: request bytes kept while it waits.
            use: makes the call on a copy.
            keep: takes over leaving the copy, for a use that outlasts this call.
            may_repeat: whether `use` can be done again on another copy.
        """
        journey = Journey(named.model, self._conductor.pod, self._registry.models)
        while True:
            copy = await self._reach(journey, call, size)
            kept = False
            try:
                result = await use(copy)
                if keep is not None:
                    keep(lambda copy=copy: self._conductor.leave(copy))  # type: ignore[misc]
                    kept = True
                return result
            except RuntimeStatus as status:
                error = error_of(call.method, status)
                if error is not None:
                    raise error from None
                if not not_here(status):
                    raise
                # The copy is let go before it is left, so that no other call enters it meanwhile.
                self._conductor.tell(RuntimeForgot(copy.id))
                if not (journey.forgotten() and may_repeat()):
                    raise
            finally:
                if not kept:
                    self._conductor.leave(copy)

    async def _reach(self, journey: Journey, call: Call, size: int) -> Copy:
        """A copy that was entered."""
        while True:
            step = journey.next(self._conductor.now())
            if isinstance(step, Serve):
                return step.copy
            if isinstance(step, Refuse):
                raise step.error
            loop = asyncio.get_running_loop()
            begun = loop.time()
            wanted = LoadWanted(step.model, step.info, self._conductor.now(), urgent=True, waits=True)
            with self._admission.hold(size):
                copy = await self._wait(wanted, call)
            self._metrics.cache_miss((loop.time() - begun) * 1000, step.model)
            if copy is not None:
                return copy

    async def _wait(self, wanted: LoadWanted, call: Call) -> Copy | None:
        longest = self._runtime.policy.longest_wait / 1000
        remaining = self._remaining(call)
        limit = longest if remaining is None else remaining
        try:
            async with asyncio.timeout(limit):
                return await self._conductor.have_loaded(wanted)
        except TimeoutError:
            raise DeadlineExceeded(f"model {wanted.model} was not loaded within {limit:.3g} s; the load goes on") from None

    # Several models

    async def _several(self, call: Call, payload: bytes, targets: list[Target], *, every: bool) -> Answer:
        """Sends the request to each model and concatenates the answers in the order named."""
        turns = asyncio.Semaphore(self._parallel)

        async def one(target: Target) -> Answer | Unknown:
            async with turns:
                try:
                    (named,) = self._targets.resolve(target)
                    return await self._one(call, payload, named, self._injection(call.method))
                except Unknown as error:
                    if every:
                        raise
                    return error

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(target)) for target in targets]
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        answers = [answer for task in tasks if isinstance(answer := task.result(), Answer)]
        if not answers:
            raise Unknown(NONE_FOUND)
        headers: Metadata = tuple(entry for answer in answers for entry in answer.headers)
        trailers: Metadata = tuple(entry for answer in answers for entry in answer.trailers)
        return Answer(b"".join(answer.payload for answer in answers), headers, trailers)

    # Small things

    def _measured(self, method: str, size: int) -> Measured:
        return Measured(self._metrics, method, size)

    def _injection(self, method: str) -> tuple[int, ...]:
        path = None if method.startswith(RUNTIME_SERVICE) else self._runtime.injection(method)
        if path is None:
            raise Unsupported(f"Method not found or not permitted: {method}")
        return path

    def _remaining(self, call: Call) -> float | None:
        if call.deadline is None:
            return None
        return max(0.0, call.deadline - asyncio.get_running_loop().time())
