"""Carries out calls: finds the model, has it loaded if need be, calls the runtime, heals what it forgot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from mesh.core.cache.copies import Copy
from mesh.core.errors import MeshError, Unknown, Unsupported
from mesh.core.ids import ModelId
from mesh.core.routing.hops import Hop
from mesh.pod.admission import Admission
from mesh.pod.attempted import Attempted
from mesh.pod.measured import Invoked, Measured
from mesh.pod.peers import Peers
from mesh.pod.streams import Requests, ServedStream
from mesh.pod.targets import Named, Targets, is_several, split
from mesh.pod.travel import Travels, Way, remaining
from mesh.runtime.handshake import Runtime
from mesh.telemetry import logs, traces
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.payloads import Payloads
from mesh.wire import fields
from mesh.wire.call import REQUEST_ID, Answer, Call, Metadata, Target
from mesh.wire.exchange import Exchange
from mesh.wire.headers import to_runtime
from mesh.wire.shapes import shape_of

T = TypeVar("T")

RUNTIME_SERVICE = "mmesh.ModelRuntime/"
NONE_FOUND = "none of the requested models were found"
"""Pinned text (reference 3.11)."""


class CallServer:
    """Serves calls on this pod's runtime."""

    def __init__(
        self,
        targets: Targets,
        runtime: Runtime,
        exchange: Exchange,
        peers: Peers,
        travels: Travels,
        admission: Admission,
        metrics: Metrics,
        *,
        parallel: int,
        log_each: bool,
        payloads: Payloads | None = None,
    ) -> None:
        self._targets, self._runtime, self._exchange, self._peers = targets, runtime, exchange, peers
        self.travels, self._admission, self._metrics = travels, admission, metrics
        self._parallel, self._log_each, self._payloads = parallel, log_each, payloads

    def log_each(self, wanted: bool) -> None:
        """Switches the line for each call of the runtime on or off."""
        self._log_each = wanted

    async def stop(self) -> None:
        """Sees payloads out that wait for processors; calls are over."""
        if self._payloads is not None:
            await self._payloads.end()

    async def unary(self, call: Call, payload: bytes) -> Answer:
        """One message in, one out. Errors as `mesh.doors.ports.Serving` says."""
        if call.hop is not None:
            with logs.request(call.metadata), traces.served(call.method, call.metadata, call.hop.sender):
                return await self._one(call, payload, Named(call.hop.model, call.hop.alias), self._injection(call.method))
        target: Target | None = None
        try:
            with (
                self._admission.call(),
                logs.request(call.metadata),
                traces.served(call.method, call.metadata),
                Measured(self._metrics, call, self._payloads) as measured,
            ):
                measured.asked(payload)
                path, rule = self._injection(call.method), self._targets.rule(call.method)
                target = self._targets.target(call, rule, payload)
                if is_several(target):
                    measured.of_several()
                    answer = await self._several(call, payload, target, path)
                else:
                    (measured.named,) = await self._targets.find(target, call, payload)
                    answer = await self._one(call, payload, measured.named, path)
                measured.answered(answer.payload, answer.headers)
                return answer
        except MeshError as error:
            self.travels.refused(call, _name(target), error)
            raise

    async def stream(self, call: Call, requests: AsyncIterator[bytes]) -> ServedStream:
        """Any number of messages both ways; returns when the first answer is there. Errors as `mesh.doors.ports.Serving` says."""
        held, measured = ExitStack(), Measured(self._metrics, call, self._payloads)
        served, target = ServedStream(held, measured), None
        try:
            held.enter_context(logs.request(call.metadata))
            held.enter_context(traces.served(call.method, call.metadata, call.hop.sender if call.hop else ""))
            if call.hop is None:
                # Limits and figures of calls are those of the pod where they came in.
                held.enter_context(self._admission.call())
                held.enter_context(measured)
            path, rule = self._injection(call.method), self._targets.rule(call.method)
            messages = Requests(requests, rule, path, measured)
            held.callback(messages.close)
            first = await messages.first()
            target = Target(models=(call.hop.model,)) if call.hop else self._targets.target(call, rule, first)
            if is_several(target):
                measured.of_several()
                served.answer(await self._several(call, await messages.only(), target, path))
            else:
                (measured.named,) = [Named(call.hop.model, call.hop.alias)] if call.hop else await self._targets.find(target, call, first)
                await self._pipe(call, measured.named, messages, served)
        except BaseException as error:
            if isinstance(error, MeshError):
                self.travels.refused(call, _name(target), error)
            served.fail(error)
            raise
        return served

    # One model

    async def _one(self, call: Call, payload: bytes, named: Named, path: tuple[int, ...]) -> Answer:
        attempted = Attempted.of(call)

        async def here(copy: Copy) -> Answer:
            model = copy.id.model
            message = fields.replace(payload, path, model.encode()) if path else payload
            with traces.sent("runtime", model=model), Invoked(self._metrics, call.method, model, named.alias, log=self._log_each):
                if attempted is not None:
                    attempted.instead(copy.id)
                return await self._exchange.unary(call.method, message, _to_runtime(call, model), remaining(call))

        async def there(hop: Hop) -> Answer:
            with traces.sent("hop", pod=hop.dest, why=hop.kind.value, model=hop.model):
                if attempted is not None and (status := attempted.by(hop)) is not None:
                    self._peers.judge(hop, status)
                return await self._peers.unary(hop, _to_peer(call), payload, remaining(call))

        way = Way(here, there, len(payload))
        answer = await self._go(call, named, way)
        if way.request and call.hop is None:
            answer = replace(answer, trailers=(*answer.trailers, (REQUEST_ID, way.request)))
        return answer

    async def _pipe(self, call: Call, named: Named, messages: Requests, served: ServedStream) -> None:
        messages.bind(named)
        one = await messages.is_one()
        lone = one and call.hop is None and not shape_of(call.method).known
        attempted = Attempted.of(call)

        async def here(copy: Copy) -> None:
            model = copy.id.model
            with traces.sent("runtime", model=model), Invoked(self._metrics, call.method, model, named.alias, log=self._log_each):
                if attempted is not None:
                    attempted.instead(copy.id)
                metadata, timeout = _to_runtime(call, model), remaining(call)
                if one:
                    await served.begin(self._exchange.ask(call.method, messages.one(model), metadata, timeout), lone=lone)
                else:
                    await served.begin(self._exchange.stream(call.method, messages.replay(model), metadata, timeout))

        async def there(hop: Hop) -> None:
            with traces.sent("hop", pod=hop.dest, why=hop.kind.value, model=hop.model):
                if attempted is not None and (status := attempted.by(hop)) is not None:
                    self._peers.judge(hop, status)
                if one:
                    await served.begin(self._peers.ask(hop, _to_peer(call), messages.one(), remaining(call)), lone=lone)
                else:
                    await served.begin(self._peers.stream(hop, _to_peer(call), messages.replay(), remaining(call)))

        way = Way(here, there, messages.held, served.keep, lambda: messages.replayable)
        await self._go(call, named, way, messages.bind)
        if call.hop is None:
            served.request = way.request

    async def _go(self, call: Call, named: Named, way: Way[T], bind: Callable[[Named], None] = lambda _: None) -> T:
        """Makes a call; one of an alias that was switched while it waited goes on to the new model."""
        traces.about(model=named.model, alias=named.alias)
        try:
            return await self.travels.go(call, named, way)
        except Unknown:
            again = await self._targets.again(named) if call.hop is None and way.may_repeat() else None
            if again is None:
                raise
            bind(again)
            return await self._go(call, again, way, bind)

    # Several models

    async def _several(self, call: Call, payload: bytes, target: Target, path: tuple[int, ...]) -> Answer:
        """Sends the request to each model and concatenates the answers in the order named."""
        turns = asyncio.Semaphore(self._parallel)

        async def one(part: Target) -> Answer | None:
            async with turns:
                try:
                    (named,) = await self._targets.find(part, call, payload)
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


def _name(target: Target | None) -> str:
    """What a call asked for, as far as that is known."""
    if target is None:
        return ""
    return target.either or next(iter((*target.aliases, *target.models)), "")


def _to_runtime(call: Call, model: ModelId) -> Metadata:
    return traces.outgoing(to_runtime(call.metadata, model))


def _to_peer(call: Call) -> Call:
    metadata = traces.outgoing(call.metadata)
    return call if metadata is call.metadata else replace(call, metadata=metadata)
