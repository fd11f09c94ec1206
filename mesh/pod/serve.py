"""Carries out calls: finds the model, has it loaded if need be, calls the runtime, heals what it forgot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from mesh.core.copies import Copy
from mesh.core.errors import Code, DeadlineExceeded, Unknown, Unsupported
from mesh.core.events import LoadWanted, RuntimeForgot
from mesh.core.journey import Journey, Refuse, Serve
from mesh.pod.admission import Admission
from mesh.pod.conductor import Conductor
from mesh.pod.measured import Measured, code_of
from mesh.pod.streams import Requests, ServedStream
from mesh.pod.targets import Named, Targets, is_several, split
from mesh.pod.turns import Turns
from mesh.pod.underway import Underway
from mesh.runtime.handshake import Runtime
from mesh.store.registry import Registry
from mesh.telemetry import logs
from mesh.telemetry.metrics import Metrics
from mesh.wire import fields
from mesh.wire.answers import error_of, not_here
from mesh.wire.call import Answer, Call, Metadata, RuntimeStatus, Target
from mesh.wire.exchange import Exchange
from mesh.wire.headers import to_runtime

log = logging.getLogger(__name__)

T = TypeVar("T")

VERDICT = 0.5
"""Seconds in which a runtime that did not answer a call turns out to be down, if it is."""

RUNTIME_SERVICE = "mmesh.ModelRuntime/"
NONE_FOUND = "none of the requested models were found"
"""Pinned text (reference 3.11)."""


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
        self._underway = Underway()
        conductor.watch(self._underway.watch)
        self._parallel, self._log_each = parallel, log_each

    async def unary(self, call: Call, payload: bytes) -> Answer:
        """One message in, one out. Errors as `mesh.doors.ports.Serving` says."""
        with self._admission.call(), logs.request(call.metadata), Measured(self._metrics, call.method, len(payload)) as measured:
            path, rule = self._injection(call.method), self._targets.rule(call.method)
            target = self._targets.target(call, rule, payload)
            if is_several(target):
                answer = await self._several(call, payload, target, path)
            else:
                (measured.named,) = self._targets.resolve(target)
                answer = await self._one(call, payload, measured.named, path)
            measured.answered = len(answer.payload)
            return answer

    async def stream(self, call: Call, requests: AsyncIterator[bytes]) -> ServedStream:
        """Any number of messages both ways; returns when the first answer is there. Errors as `mesh.doors.ports.Serving` says."""
        held = ExitStack()
        held.enter_context(self._admission.call())
        held.enter_context(logs.request(call.metadata))
        measured = held.enter_context(Measured(self._metrics, call.method))
        served = ServedStream(held, measured)
        try:
            path, rule = self._injection(call.method), self._targets.rule(call.method)
            messages = Requests(requests, rule, path, measured)
            held.callback(messages.close)
            target = self._targets.target(call, rule, await messages.first())
            if is_several(target):
                served.answer(await self._several(call, await messages.only(), target, path))
            else:
                (measured.named,) = self._targets.resolve(target)
                await self._pipe(call, measured.named, messages, served)
        except BaseException as error:
            served.fail(error)
            raise
        return served

    # One model

    async def _one(self, call: Call, payload: bytes, named: Named, path: tuple[int, ...]) -> Answer:
        async def use(copy: Copy) -> Answer:
            model = copy.id.model
            message = fields.replace(payload, path, model.encode()) if path else payload
            with self._invoking(call, copy, named):
                return await self._exchange.unary(call.method, message, to_runtime(call.metadata, model), self._remaining(call))

        return await self._travel(call, named, len(payload), use)

    async def _pipe(self, call: Call, named: Named, messages: Requests, served: ServedStream) -> None:
        messages.bind(named)
        one = await messages.is_one()

        async def use(copy: Copy) -> None:
            model = copy.id.model
            metadata, timeout = to_runtime(call.metadata, model), self._remaining(call)
            with self._invoking(call, copy, named):
                if one:
                    await served.begin(self._exchange.ask(call.method, messages.one(model), metadata, timeout))
                else:
                    await served.begin(self._exchange.stream(call.method, messages.replay(model), metadata, timeout))

        await self._travel(call, named, messages.held, use, keep=served.keep, may_repeat=lambda: messages.replayable)

    @contextmanager
    def _invoking(self, call: Call, copy: Copy, named: Named) -> Iterator[None]:
        """Logs and measures a call of the runtime; of a stream, up to its first answer."""
        loop = asyncio.get_running_loop()
        if self._log_each:
            log.info("invoking model runtime gRPC method: %s", call.method, extra={"model": copy.id.model})
        begun, code = loop.time(), Code.OK
        try:
            yield
        except BaseException as error:
            code = code_of(error)
            raise
        finally:
            self._metrics.invoke(call.method, code, (loop.time() - begun) * 1000, copy.id.model, named.alias)

    async def _travel(
        self,
        call: Call,
        named: Named,
        size: int,
        use: Callable[[Copy], Awaitable[T]],
        *,
        keep: Callable[[ExitStack], None] | None = None,
        may_repeat: Callable[[], bool] = lambda: True,
    ) -> T:
        """Brings a call to a copy and uses it.

        Args:
            call: what is asked.
            named: its model.
            size: request bytes kept while it waits.
            use: makes the call on a copy.
            keep: takes over what ends with the use, for one that outlasts this call.
            may_repeat: whether `use` can be done again on another copy.
        """
        journey = Journey(named.model, self._conductor.pod, self._registry.models)
        while True:
            copy = await self._reach(journey, call, size)
            with ExitStack() as used:
                used.callback(self._conductor.leave, copy)
                used.enter_context(self._underway.on(copy))
                try:
                    used.callback(await self._turns.take(copy))
                    result = await use(copy)
                except RuntimeStatus as status:
                    error = error_of(call.method, status) or status
                    if not journey.again():
                        # What a copy says that was loaded for this very call is the runtime's answer.
                        raise error from None
                    await self._judge(call, copy, status)
                    if not may_repeat():
                        raise error from None
                else:
                    if keep is not None:
                        keep(used.pop_all())
                    return result

    async def _judge(self, call: Call, copy: Copy, status: RuntimeStatus) -> None:
        """Returns if the call may be made again: the runtime does not know the copy, or has just gone down.

        Raises:
            RuntimeStatus: it is an answer.
            MeshError: the runtime did not answer, and is not known to be down.
        """
        error = error_of(call.method, status)
        if error is not None:
            if self._conductor.pod.cache.watched and await self._conductor.goes_down(VERDICT):
                return
            raise error from None
        if not not_here(status):
            raise status
        # Noted before the copy is left, so that no other call enters it.
        self._conductor.tell(RuntimeForgot(copy.id))

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

    async def _several(self, call: Call, payload: bytes, target: Target, path: tuple[int, ...]) -> Answer:
        """Sends the request to each model and concatenates the answers in the order named."""
        turns = asyncio.Semaphore(self._parallel)

        async def one(part: Target) -> Answer | None:
            async with turns:
                try:
                    (named,) = self._targets.resolve(part)
                    return await self._one(call, payload, named, path)
                except Unknown:
                    if target.all_required:
                        raise
                    return None

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(part)) for part in split(target)]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        answers = [answer for task in tasks if (answer := task.result()) is not None]
        if not answers:
            raise Unknown(NONE_FOUND)
        headers: Metadata = tuple(entry for answer in answers for entry in answer.headers)
        trailers: Metadata = tuple(entry for answer in answers for entry in answer.trailers)
        return Answer(b"".join(answer.payload for answer in answers), headers, trailers)

    # Small things

    def _injection(self, method: str) -> tuple[int, ...]:
        path = None if method.startswith(RUNTIME_SERVICE) else self._runtime.injection(method)
        if path is None:
            raise Unsupported(f"Method not found or not permitted: {method}")
        return path

    def _remaining(self, call: Call) -> float | None:
        if call.deadline is None:
            return None
        return max(0.0, call.deadline - asyncio.get_running_loop().time())
