"""Streams: the first message names the model and is kept until the first answer; a stream holds its copy until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack

from mesh.core.errors import Code, Malformed, MeshError, Unsupported
from mesh.core.ids import ModelId
from mesh.core.routing.dataplane import Rule
from mesh.pod.measured import Measured
from mesh.pod.targets import Named
from mesh.pod.travel import End
from mesh.wire import fields
from mesh.wire.call import REQUEST_ID, Answer, Metadata, RuntimeStatus
from mesh.wire.exchange import Answering

PEEK = 0.002
"""Seconds to see whether a caller sends one message only: its end comes with it, if it does."""

LONE = 0.005
"""Seconds to see whether one message is the whole answer of a method that nothing is known of: its end comes with it, if it is."""


class Requests:
    """The request side of a stream: each message gets the concrete model's id, and none may name another model."""

    def __init__(self, source: AsyncIterator[bytes], rule: Rule, path: tuple[int, ...], measured: Measured) -> None:
        self._source, self._rule, self._path, self._measured = source, rule, path, measured
        self._first: bytes | None = None
        self._sent = 0
        self._next: asyncio.Task[bytes | None] | None = None
        self._named: Named | None = None

    async def first(self) -> bytes:
        """The first message; empty if the caller sends none.

        A stream that headers name needs no message to be routed, but waiting for one keeps replays simple.
        """
        self._first = await anext(self._source, None)
        if self._first is not None:
            self._measured.asked(self._first)
        return self._first or b""

    async def only(self) -> bytes:
        """The first message, if it is the only one.

        Raises:
            Unsupported: there are more.
        """
        if await self._pull() is not None:
            raise Unsupported("a stream can name one model only; open a stream for each, or send one message")
        return self._first or b""

    async def is_one(self) -> bool:
        """Whether the caller is known to send one message and no more, which is looked at for a moment only: it may wait for an answer."""
        if self._first is None:
            return False
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._source, None))
        await asyncio.wait([self._next], timeout=PEEK)
        return self._next.done() and self._next.result() is None

    async def _pull(self) -> bytes | None:
        """The next message; a try that is given up does not take with it what the caller is about to send."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._source, None))
        message = await asyncio.shield(self._next)
        self._next = None
        return message

    def close(self) -> None:
        """Reads no more."""
        if self._next is not None:
            self._next.cancel()

    def bind(self, named: Named) -> None:
        """Says which model the stream is for."""
        self._named = named

    @property
    def held(self) -> int:
        """Bytes of the kept first message."""
        return len(self._first or b"")

    @property
    def replayable(self) -> bool:
        """Whether nothing beyond the kept first message was sent yet."""
        return self._sent <= 1

    async def replay(self, model: ModelId | None = None) -> AsyncIterator[bytes]:
        """All messages from the first on, for one try; as they came, unless a concrete model is to be named in each."""
        if self._first is None:
            return
        self._sent = 1
        yield self._addressed(self._first, model)
        while (message := await self._pull()) is not None:
            self._sent += 1
            self._measured.asked(message)
            self._check(message)
            yield self._addressed(message, model)

    def one(self, model: ModelId | None = None) -> bytes:
        """The first message, for a caller that sends no more; as it came, unless a concrete model is to be named in it."""
        return self._addressed(self._first or b"", model)

    def _addressed(self, message: bytes, model: ModelId | None) -> bytes:
        return fields.replace(message, self._path, model.encode()) if self._path and model is not None else message

    def _check(self, message: bytes) -> None:
        """Refuses a message that names another model than the first."""
        assert self._named is not None
        found = fields.read(message, self._rule.path) if self._rule.path else None
        if found is None or (name := found.decode(errors="replace")) in ("", self._named.alias, self._named.model):
            return
        raise Malformed(f"a message of this stream names model {name!r}, but the stream is for {self._named.alias or self._named.model!r}")


class ServedStream:
    """The answering side of a stream; what it holds is freed when it ends, however it ends.

    Args:
        held: places, turns and measures to give back.
        measured: told what was answered.

    Attributes:
        request: the id under which `explain` knows of it; empty for a plain hit.
    """

    def __init__(self, held: ExitStack, measured: Measured) -> None:
        self._held, self._measured = held, measured
        self._call: Answering | None = None
        self._head: bytes | None = None
        self._following: asyncio.Future[bytes | None] | None = None
        self._tail: Metadata = ()
        self.headers: Metadata = ()
        self.request = ""

    async def begin(self, call: Answering, *, lone: bool = False) -> None:
        """Waits for the first answer, so that a copy which the runtime does not know can still be replaced.

        Args:
            call: the stream.
            lone: the answer is probably one message: it is held for a moment, and if whoever gave it dies before its end, it is as if
                it had never come.
        """
        self._call = call
        try:
            self._head = await call.next()
            if lone and self._head is not None:
                await self._hold(call)
        except BaseException:
            self._end(call)
            raise
        self.headers = call.headers

    async def _hold(self, call: Answering) -> None:
        self._following = asyncio.ensure_future(call.next())
        await asyncio.wait([self._following], timeout=LONE)
        error = self._following.exception() if self._following.done() else None
        if isinstance(error, MeshError) or (isinstance(error, RuntimeStatus) and error.code is Code.UNAVAILABLE):
            self._head = None
            raise error

    def _end(self, call: Answering) -> None:
        following, self._following = self._following, None
        if following is not None and not following.cancel() and not following.cancelled():
            # Nobody wants to know any more how it ended.
            following.exception()
        call.cancel()

    def answer(self, answer: Answer) -> None:
        """Makes it a stream of one message that is known already."""
        self._head, self.headers, self._tail = answer.payload, answer.headers, answer.trailers

    def keep(self, used: End) -> None:
        """Ends something with the stream."""
        self._held.push(used)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Response messages in order."""
        with self._held:
            try:
                message, self._head = self._head, None
                while message is not None:
                    self._measured.answered(message, self.headers)
                    yield message
                    message = await self._next()
            finally:
                if self._call is not None:
                    self._end(self._call)

    async def _next(self) -> bytes | None:
        following, self._following = self._following, None
        if following is not None:
            return await following
        return await self._call.next() if self._call else None

    @property
    def trailers(self) -> Metadata:
        """Known once the iteration is over."""
        trailers = self._call.trailers if self._call else self._tail
        return (*trailers, (REQUEST_ID, self.request)) if self.request else trailers

    def close(self) -> None:
        """Ends a stream whose caller has left, or whose end was told; its caller may leave before the iteration begins."""
        self._head = None
        self.fail(asyncio.CancelledError())

    def fail(self, error: BaseException) -> None:
        """Ends a stream that did not come to an answer."""
        if self._call is not None:
            self._end(self._call)
        self._held.__exit__(type(error), error, error.__traceback__)
